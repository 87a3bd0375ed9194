"""The node's control API: JSON bodies with gRPC's framing, deadlines and limits, on a unix socket of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Limit for requests and responses. A manifest has at most 1 MiB; the state of some thousand pods fits."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
"""The subchannel pool is local: another client's failed connection to the same path must not delay this one."""


Json: TypeAlias = dict[str, Any]
"""A decoded body."""


class Method(StrEnum):
    """The methods of the control API."""

    STATE = "State"
    APPLY = "Apply"
    LOGS = "Logs"
    DELETE = "Delete"
    IMAGES = "Images"
    RESTART_KUBELET = "RestartKubelet"


SERVICE = "confcom.playground.Node"


def method_path(method: Method) -> str:
    """Return a method's full name on the wire."""
    return f"/{SERVICE}/{method}"
