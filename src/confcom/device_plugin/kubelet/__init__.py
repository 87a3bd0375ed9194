"""The device plugin's interface to the kubelet: sockets, ListAndWatch, Allocate, and registration.

Owns the gRPC servers and clients. The advertised resources are planned from what `discovery` finds.
"""
