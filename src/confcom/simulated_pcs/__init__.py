"""Collateral of a simulated platform, served over HTTP in the form of Intel's PCS and its caches (PCCS).

`answers` computes the answers and does no I/O; `server` is the HTTP server; `main` is the daemon.
"""
