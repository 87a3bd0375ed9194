"""Manage a cluster's add-on from a user's machine: enable, update, roll back, disable, or show its status.

Only `login` and `helm` connect to a cluster: they run kubectl and helm with the user's own credentials. The
modules `status`, `epc` and `preflight` do no I/O: they compute from objects. `chart` is the Helm chart.
"""
