"""The commands, each of which is a module that is imported only when the command runs.

The commands parse options, call other packages, and print. The commands' table is in `confcom.cli.group`.
"""
