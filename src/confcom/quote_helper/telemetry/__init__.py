"""Metrics and log lines: what operators learn about clients and quotes."""
