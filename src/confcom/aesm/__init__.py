"""The AESM protocol, sans I/O: framing, messages, and the sessions of client and server."""
