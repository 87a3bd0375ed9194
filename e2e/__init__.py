"""Tests on a real Kubernetes, and what they need: a cluster and images."""
