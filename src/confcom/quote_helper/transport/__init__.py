"""Connections of AESM clients: accepting, identifying the peer, receiving a request, and sending the answer."""
