"""Manage a cluster's add-on from a user's machine: enable, update, roll back, disable, and status.

Only `login` and `helm` connect to a cluster, by kubectl and helm with the user's own credentials. The modules
`status`, `epc` and `preflight` are pure: objects in, findings out. `chart` is the Helm chart.
"""
