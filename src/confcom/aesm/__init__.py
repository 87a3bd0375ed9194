"""The AESM protocol, sans I/O: framing, messages, and both sides' sessions."""
