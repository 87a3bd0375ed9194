"""The path of the AESM socket, and which of several instances on a node serves it during an update.

`takeover_policy` decides from what was seen; the other modules look at the path, bind it, and probe the instance that
has it.
"""
