"""The kubelet's device plugin API: messages, services, device lists; both ends use it."""
