"""One node of real Kubernetes on this machine, in namespaces of its own."""

from e2e.cluster.cluster import Cluster, CommandError

__all__ = ["Cluster", "CommandError"]
