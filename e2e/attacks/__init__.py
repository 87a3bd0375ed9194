"""What a hostile Pod can do to a node's quote helper: used in Pods by the cases, and on a socket by the soak."""
