"""Real Kubernetes with one node or several on this machine, in Linux namespaces of its own."""

from e2e.cluster.cluster import Cluster
from e2e.cluster.node import CommandError, Node
from e2e.cluster.plan import Shape

__all__ = ["Cluster", "CommandError", "Node", "Shape"]
