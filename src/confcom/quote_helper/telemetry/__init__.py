"""Metrics, log lines and the audit file: what operators learn of clients and quotes.

Is told of events by `transport` and `quoting`. Writes logs and the audit file, and touches no socket.
"""
