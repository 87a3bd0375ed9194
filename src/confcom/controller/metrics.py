"""Metrics of the controller; the help texts explain them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confcom.controller.reconcile.facts import Accounting

WRITE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
"""Seconds: a patch takes 4 ms on an idle API server."""
UNKNOWN = "unknown"


class ControllerMetrics:
    """The metrics of one controller process, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        self.plugins = gauge(
            "confcom_controller_plugins",
            "Device plugins, by how they have EPC counted: device, capacity, nothing (they wait for SGX), or unknown "
            "(they have not answered)",
            ["accounting"],
        )
        self.shortfall_nodes = gauge(
            "confcom_controller_shortfall_nodes", "Nodes whose Pods request more EPC than the plugin found"
        )
        self.waiting_nodes = gauge(
            "confcom_controller_waiting_nodes", "Nodes without a plugin whose key is to be removed later"
        )
        self.last_contact = gauge(
            "confcom_controller_contact_age_seconds", "Time since the API server answered, by feed", ["feed"]
        )
        self.writes = counter(
            "confcom_controller_writes", "Changes of a node's capacity; kind: give, take or remove", ["kind"]
        )
        self.rewrites = counter(
            "confcom_controller_rewrites", "Writes of a node soon after another one: somebody else may overwrite them"
        )
        self.write_failures = counter("confcom_controller_write_failures", "Writes of a node that failed", ["code"])
        self.write_seconds = Histogram(
            "confcom_controller_write_seconds", "Time to write a node", buckets=WRITE_BUCKETS, registry=registry
        )
        self.events = counter("confcom_controller_watch_events", "Changes received", ["feed"])
        self.lists = counter("confcom_controller_lists", "Complete lists received", ["feed"])
        self.api_failures = counter("confcom_controller_api_failures", "Failures to follow the API server", ["code"])
        self.inventories = counter("confcom_controller_inventories", "Inventories received from plugins")
        self.inventory_failures = counter(
            "confcom_controller_inventory_failures", "Failures to get an inventory", ["code"]
        )

    def show(self, plugins: Callable[[], Mapping[str, int]], contact_ages: Mapping[str, Callable[[], float]]) -> None:
        """Have the gauges that show the state read it when they are scraped."""
        for accounting in (*Accounting, UNKNOWN):
            self.plugins.labels(accounting).set_function(partial(_number, plugins, str(accounting)))
        for feed, age in contact_ages.items():
            self.last_contact.labels(feed).set_function(age)


def _number(plugins: Callable[[], Mapping[str, int]], accounting: str) -> float:
    return plugins().get(accounting, 0)
