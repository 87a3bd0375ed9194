"""The SGX device plugin: it finds the node's EPC, offers it to the kubelet, and answers Allocate.

Touches /sys, /dev, CPUID and the kubelet's directory. `main` is the composition root.
"""
