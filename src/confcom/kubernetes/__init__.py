"""Kubernetes objects as JSON gives them: names, labels, quantities, resource requests. Pure."""
