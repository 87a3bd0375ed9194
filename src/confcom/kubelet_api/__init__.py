"""kubelet_api."""
