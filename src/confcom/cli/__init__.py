"""The command line: `commands` has a module for each command, the other modules have what commands share.

It touches the terminal only; each command calls one package, and imports it when it runs.
"""
