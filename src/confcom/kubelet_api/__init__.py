"""The kubelet's device plugin API, for the kubelet and for plugins: messages, services, and device lists."""
