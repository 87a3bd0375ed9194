"""Kubernetes objects as JSON gives them: names, labels, quantities, resource requests.

Pure, and shared by the add-on's commands and the Job in the cluster.
"""
