"""Churn: Pods with EPC come and go all the time, while the daemons that count EPC are killed and restarted."""
