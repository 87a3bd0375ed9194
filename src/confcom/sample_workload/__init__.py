"""sample_workload."""
