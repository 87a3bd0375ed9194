"""How long a kubelet's restart takes beside Pods with EPC, and beside others: `python -m bench.cluster.restarts`."""
