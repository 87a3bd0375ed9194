"""What a kubelet does to a device plugin: one suite for the demo's device manager and for real kubelets."""
