"""Metrics and log lines: what operators learn about clients and quotes.

Receives events from `transport` and `quoting`. Writes logs. Does not use sockets.
"""
