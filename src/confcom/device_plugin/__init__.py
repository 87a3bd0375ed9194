"""The SGX device plugin, which finds the node's EPC, offers EPC to the kubelet, and answers Allocate."""
