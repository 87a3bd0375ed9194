"""Attacks of a hostile Pod on a node's daemons: cases run them in Pods, the soak runs them on a socket."""
