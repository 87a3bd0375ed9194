"""The add-on of a cluster, as a person's machine sees it: enable, update, roll back, disable, and status.

It reaches a cluster by the programs kubectl and helm, with the person's own credentials, and only in `cluster`.
Everything that decides (`status`, `rollout`, `workloads`, `daemons`, `preflight`, `release`, `model`) is pure: objects
in, decisions out. `chart` is the Helm chart.
"""
