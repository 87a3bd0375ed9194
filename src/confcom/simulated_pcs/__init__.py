"""Collateral of a simulated platform, served over HTTP as Intel's PCS and its caches (PCCS) serve Intel's.

`answers` decides what is answered and does no I/O; `server` is the HTTP server; `main` is the daemon.
"""
