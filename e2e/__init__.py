"""End-to-end tests on a real Kubernetes, and the code that makes their cluster and images."""
