"""What may happen."""

import enum


class Disturbance(enum.Enum):
    """What may happen on a node."""

    KUBELET_RESTART = enum.auto()
    START = enum.auto()
    KILL = enum.auto()
    TERMINATE = enum.auto()
    REMOVE_PLUGIN_SOCKET = enum.auto()
    REMOVE_KUBELET_SOCKET = enum.auto()
    REMOVE_EVERY_SOCKET = enum.auto()
    LOSE_DEVICE = enum.auto()
    """The driver is unloaded, and its devices go."""
    RETURN_DEVICE = enum.auto()
    SUBMIT = enum.auto()
    """A pod by way of the scheduler."""
    SUBMIT_PAST_SCHEDULER = enum.auto()
    """One that the scheduler gave to the node by what it knew a moment ago."""
    DELETE = enum.auto()
