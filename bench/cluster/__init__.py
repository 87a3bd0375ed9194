"""What the add-on costs, and how fast it is, on a real cluster: `make bench-e2e`."""
