"""The SGX device plugin: finds EPC, offers it to the kubelet, and says what a container entitled to it gets."""
