"""What a kubelet does to a device plugin: one suite for the playground's stand-in and for the real one."""
