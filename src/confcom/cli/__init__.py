"""The command line. `commands` has a module for each command; the other modules are what commands share.

This package only handles the terminal. A command imports the package that does its work when it runs.
"""
