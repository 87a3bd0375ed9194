"""The kubelet's device plugin API, for both of its sides: messages, services, and device lists.

Needs gRPC and opens no connection itself: the device plugin and the demo do.
"""
