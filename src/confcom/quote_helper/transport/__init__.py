"""Connections of AESM clients: accepting, identifying the peer, receiving a request, and sending the answer.

Owns the sockets and the epoll. Gives complete requests to `quoting`, and tells an observer what happened; it knows
neither the socket's path nor logs and metrics.
"""
