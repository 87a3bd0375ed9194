"""Kubernetes objects as JSON gives them (names, labels, quantities, resource requests), and how EPC is counted there.

Pure, and shared by the add-on's commands, and the daemons.
"""
