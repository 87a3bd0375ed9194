"""Benchmarks of the quote helper's speed, and a soak test of its endurance: `make bench` and `make soak`."""
