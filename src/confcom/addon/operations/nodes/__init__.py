"""What a change waits for on the nodes, or removes from them, before or after helm has run."""
