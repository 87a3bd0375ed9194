"""Churn: Pods with EPC that come and go all the time, while what counts their EPC is killed and comes back."""
