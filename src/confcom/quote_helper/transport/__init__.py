"""Connections of AESM clients: accepting, identifying the peer, receiving a request, and sending the answer.

Owns the sockets and the epoll. Passes complete requests to `quoting` and reports events to an observer. Does not know
the socket's path, or metrics.
"""
