"""The command line: `commands` has a module for each command, the other modules have what commands share.

This package only handles the terminal; each command imports one other package when it runs.
"""
