"""Creates Events about nodes whose Pods request more EPC than the node's plugin offers."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_hex

from confcom.controller.api_server import Connection
from confcom.controller.decision import NodeFacts, Shortfall
from confcom.kubernetes.names import FIELD_MANAGER
from confcom.kubernetes.objects import KubernetesObject

EVENT_SECONDS = 1800.0
"""A lasting shortfall is reported again after this time. The API server deletes Events after an hour."""
EVENTS = "api/v1/namespaces/default/events"  # Events about nodes are in this namespace

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ShortfallEvents:
    """Creates an Event when a shortfall appears or changes, and every EVENT_SECONDS while it lasts."""

    connection: Connection
    clock: Callable[[], float]
    lasting: dict[str, tuple[float, tuple[Shortfall, ...]]] = field(default_factory=dict)
    """Keyed by the node's name: the time of the last report, and the shortfalls in it."""

    def forget_all_but(self, nodes: Collection[str]) -> None:
        self.lasting = {name: reported for name, reported in self.lasting.items() if name in nodes}

    async def report(self, name: str, node: NodeFacts | None, shortfalls: tuple[Shortfall, ...]) -> None:
        """Report a node's shortfalls; `node` is None for an unknown node. UnavailableError if the request fails."""
        at, before = self.lasting.pop(name, (0.0, ()))
        if not shortfalls:
            return
        if before == shortfalls and self.clock() < at + EVENT_SECONDS:
            self.lasting[name] = (at, shortfalls)
            return
        self.lasting[name] = (float("-inf"), shortfalls)  # if an Event fails, the next read reports again
        for shortfall in shortfalls:
            amounts = {"node": name, "requested_mib": shortfall.requested_mib, "offered_mib": shortfall.offered_mib}
            _logger.warning("Pods request more EPC than the plugin found", extra=amounts)
            if node:
                event = _event(shortfall, node)
                await self.connection.request("POST", EVENTS, {"fieldManager": FIELD_MANAGER}, event)
        self.lasting[name] = (self.clock(), shortfalls)


def _event(shortfall: Shortfall, node: NodeFacts) -> KubernetesObject:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{node.name}.{token_hex(8)}", "namespace": "default"},
        "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid},
        "type": "Warning",
        "reason": "EpcShortfall",
        "message": (
            f"Pods on this node request {shortfall.requested_mib} MiB of {shortfall.resource}, and its device plugin "
            f"offers {shortfall.offered_mib}. The node's capacity is not lowered below what they request, since a "
            "restarted kubelet would fail them. Delete Pods, or look why the node has less EPC than before"
        ),
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
    }
