"""How long the controller takes at scale, and what it costs: real API server, nodes and Pods that are objects only."""
