"""The SGX device plugin. It finds the node's EPC, offers this EPC to the kubelet, and answers Allocate."""
