"""The command line. `commands` has a module for each command; the other modules are what commands share.

This package only handles the terminal. When a command runs, it imports the package that does its work.
"""
