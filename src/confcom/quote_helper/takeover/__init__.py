"""Binds the AESM socket's path, and decides which of a node's instances serves the path during an update."""
