"""The kubelet's device plugin API, for both of its sides: messages, services, device lists."""
