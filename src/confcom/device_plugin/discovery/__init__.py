"""The node's EPC and SGX device nodes, and changes to them. Independent of the kubelet."""
