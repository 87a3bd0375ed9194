"""Workloads that use the add-on's resources: which there are, and why their Pods do not start.

Pure: Pods, nodes and events in, findings out.
"""
