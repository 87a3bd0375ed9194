"""The path of the AESM socket, and which of several instances on a node serves this path during an update."""
