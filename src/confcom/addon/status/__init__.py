"""The status of the add-on: of each node, of the whole, and the problems.

Pure: a snapshot in, a status out. It makes no texts for a terminal; `cli.status_table` does.
"""
