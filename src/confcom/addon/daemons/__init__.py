"""The pods of the add-on's own daemons: their states and logs, and the simulated root that they use.

Pure: it reads objects and texts that `cluster` has fetched.
"""
