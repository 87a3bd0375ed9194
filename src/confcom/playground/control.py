"""The node's control API: gRPC's framing, deadlines and limits around JSON bodies, on a unix socket of its own."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeAlias

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Both ways. A manifest is at most 1 MiB; the state of some thousand pods fits."""

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
"""A pool of its own: another client's failed attempt on the same path must not delay this one."""


Json: TypeAlias = dict[str, Any]
"""A body, decoded."""


class Method(StrEnum):
    """The calls."""

    STATE = "State"
    APPLY = "Apply"
    LOGS = "Logs"
    DELETE = "Delete"
    IMAGES = "Images"
    RESTART_KUBELET = "RestartKubelet"


SERVICE = "confcom.playground.Node"


def method_path(method: Method) -> str:
    """A call's full name on the wire."""
    return f"/{SERVICE}/{method}"
