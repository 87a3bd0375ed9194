"""Manage a cluster's add-on from a user's machine: enable, update, roll back, disable, and status.

Only `cluster` and `helm` reach a cluster, by kubectl and helm with the person's own credentials. The decisions of
`status`, `epc`, `drift` and `preflight` are pure: objects in, findings out. `chart` is the Helm chart.
"""
