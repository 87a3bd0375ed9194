"""What the node has: EPC sections, the SGX device nodes, and changes of both.

Reads CPUID, /sys and /dev. Knows nothing of the kubelet.
"""
