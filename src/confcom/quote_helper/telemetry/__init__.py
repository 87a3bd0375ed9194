"""Metrics, log lines and the audit file: what operators learn about clients and quotes.

Receives events from `transport` and `quoting`. Writes logs and the audit file. Does not use sockets.
"""
