"""The commands, each a module that is imported only when it runs.

They parse options, call other packages, and print. `confcom.cli.group` has their table.
"""
