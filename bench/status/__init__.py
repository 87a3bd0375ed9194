"""How long `confcom status` and preflight take on large clusters, and how much memory: a real API server."""
