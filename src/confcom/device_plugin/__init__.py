"""The SGX device plugin: discovers EPC, advertises it to the kubelet, and answers Allocate."""
