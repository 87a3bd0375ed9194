"""What the add-on and its daemons agree on: names, inventories, Kubernetes objects, how EPC is counted. Pure."""
