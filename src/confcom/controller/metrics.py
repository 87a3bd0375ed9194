"""Metrics of the controller; the help texts explain them."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class ControllerMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, namespace="confcom", subsystem="controller", registry=registry)
        counter = partial(Counter, namespace="confcom", subsystem="controller", registry=registry)
        text = "Device plugins, by how they have EPC counted: device, capacity, nothing (they wait for SGX), or unknown"
        self.plugins = gauge("plugins", f"{text} (they have not answered)", ["accounting"])
        self.shortfall_nodes = gauge("shortfall_nodes", "Nodes whose Pods request more EPC than the plugin found")
        self.pod_reads = counter("pod_reads", "Times that the Pods of a node were read")
        self.writes = counter("writes", "Changes of a node's capacity; kind: give, take or remove", ["kind"])
        text = "Writes of a node soon after another one: somebody else may overwrite them"
        self.rewrites = counter("rewrites", text)
        text = "Failures to read or write a node, or to create its Event"
        self.write_failures = counter("write_failures", text, ["code"])
        self.api_failures = counter("api_failures", "Failures to follow the API server", ["code"])
        self.inventories = counter("inventories", "Inventories received from plugins")
        self.inventory_failures = counter("inventory_failures", "Failures to get an inventory", ["code"])
