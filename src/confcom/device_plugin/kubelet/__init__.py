"""The device plugin's interface to the kubelet: sockets, ListAndWatch, Allocate, and registration."""
