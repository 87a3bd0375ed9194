"""The progress of a change: the snapshot of the cluster by which it is followed, node by node, and when it has stalled.

Pure. `progress` has the interface by which a command shows it.
"""
