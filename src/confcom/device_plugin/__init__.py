"""The SGX device plugin: it finds the node's EPC, offers it to the kubelet, and answers Allocate."""
