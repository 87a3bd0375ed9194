"""Code that the add-on and its daemons share: names, inventories, Kubernetes objects, EPC accounting."""
