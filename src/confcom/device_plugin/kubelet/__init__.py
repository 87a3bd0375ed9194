"""The kubelet's side of the device plugin: sockets, ListAndWatch and Allocate, and registration.

Owns the gRPC servers and clients. What there is to offer comes from `discovery` by way of the inventory.
"""
