"""Shared by the add-on and its daemons: names, inventories, Kubernetes objects, accounting of EPC. Pure."""
