"""The pods of the add-on's own daemons: their states and logs, and whether helpers use the published simulated root.

Pure: it reads objects and texts that `cluster` has fetched.
"""
