"""The kubelet's device plugin API, for the kubelet and for plugins: messages, services, and device lists.

This package needs gRPC, but opens no connection: its users, the device plugin and the demo, open them.
"""
