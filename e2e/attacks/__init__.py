"""Attacks of a hostile Pod on a node's daemons: run in Pods by the cases, and on a socket by the soak."""
