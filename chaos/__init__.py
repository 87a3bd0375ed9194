"""Kubelet stand-in and device plugins, disturbed in every way that a node knows."""
