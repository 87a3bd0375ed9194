"""Discovery of the node's EPC sections and SGX device nodes, and of changes to them.

Reads CPUID, /sys, /dev, /proc and /etc/group. Independent of the kubelet.
"""
