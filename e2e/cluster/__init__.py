"""Real Kubernetes on this machine, in namespaces of its own: one node, or several."""

from e2e.cluster.cluster import Cluster
from e2e.cluster.node import CommandError, Node
from e2e.cluster.plan import Shape

__all__ = ["Cluster", "CommandError", "Node", "Shape"]
