"""Hardware reports of the cluster's nodes."""
