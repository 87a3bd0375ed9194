"""Costs and speed of the add-on on a real cluster: `make bench-e2e`."""
