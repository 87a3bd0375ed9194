"""The path of the AESM socket, and which of several instances on a node serves it during an update.

`takeover_policy` makes the decisions; the other modules inspect the path, bind it, and probe the instance that serves
it.
"""
