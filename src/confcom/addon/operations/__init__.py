"""What a person asks for: enable, update, roll back, disable, and the dry run of these.

Each reads through `cluster`, decides by the pure packages, and changes the cluster through `cluster`. Nothing else
changes a cluster.
"""
