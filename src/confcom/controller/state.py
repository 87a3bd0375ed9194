"""The controller's knowledge of the cluster, in memory: nodes, plugins, and what the plugins offer. No I/O.

A node is kept while it has a plugin or a key that the controller wrote, and then forgotten to save memory. If
an unknown node gets a plugin, the node is read.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from confcom.controller.decision import Decision, NodeFacts, NodePods, PluginPod, Plugins, Rules, decide
from confcom.kubernetes.inventory import EpcOffer

NOTHING, UNKNOWN = "nothing", "unknown"
"""A plugin's states in the metrics: NOTHING if it has found no SGX yet, UNKNOWN if it has not answered."""


@dataclass(slots=True)
class ClusterState:
    """The known state of a cluster: nodes, plugins (keyed by Pod name), and the names of changed nodes."""

    rules: Rules
    clock: Callable[[], float]
    nodes: dict[str, NodeFacts] = field(default_factory=dict)
    plugins: dict[str, PluginPod] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    _doubted: set[str] = field(default_factory=set)
    """Names of nodes that must be read, because a watch has lost the node or an unknown node has a plugin."""
    _plugins_of: dict[str, set[str]] = field(default_factory=dict)
    _offers: dict[str, EpcOffer] = field(default_factory=dict)
    _missing_since: dict[tuple[str, str], float] = field(default_factory=dict)

    def set_node(self, node: NodeFacts) -> None:
        """Set a node's facts, unless newer facts are known. Several watches and reads may report one node."""
        known = self.nodes.get(node.name)
        if known is not None and node.version < known.version:
            return
        if known != node:
            self.changed.add(node.name)
        self.nodes[node.name] = node
        self._doubted.discard(node.name)

    def doubt_node(self, name: str) -> None:
        """Queue a read of a node that a watch or a list lacks. Another watch may still select the node."""
        self._doubted.add(name)
        self.changed.add(name)

    def remove_node(self, name: str) -> None:
        self.nodes.pop(name, None)
        self._doubted.discard(name)
        for resource in self.rules.resources:
            self._missing_since.pop((name, resource), None)

    def set_plugin(self, plugin: PluginPod) -> bool:
        """Set a plugin's facts, and return whether they changed. The plugin's last offer is kept."""
        if self.plugins.get(plugin.name) == plugin:
            return False
        offer = self._offers.get(plugin.name)
        self.remove_plugin(plugin.name)
        if offer:
            self._offers[plugin.name] = offer
        self.plugins[plugin.name] = plugin
        self._plugins_of.setdefault(plugin.node, set()).add(plugin.name)
        self.changed.add(plugin.node)
        if plugin.node not in self.nodes:
            self.doubt_node(plugin.node)
        return True

    def remove_plugin(self, name: str) -> None:
        self._offers.pop(name, None)
        if plugin := self.plugins.pop(name, None):
            self.changed.add(plugin.node)
            self._plugins_of[plugin.node].discard(name)
            if not self._plugins_of[plugin.node]:
                del self._plugins_of[plugin.node]

    def set_offer(self, plugin: PluginPod, offer: EpcOffer) -> None:
        if self.plugins.get(plugin.name) == plugin and self._offers.get(plugin.name) != offer:
            self._offers[plugin.name] = offer
            self.changed.add(plugin.node)

    def count_plugins(self, accounting: str) -> int:
        if accounting == UNKNOWN:
            return len(self.plugins) - len(self._offers)
        return sum((offer.kind or NOTHING) == accounting for offer in self._offers.values())

    def knows(self, name: str) -> bool:
        return name in self.nodes or name in self._doubted

    def take_changed(self) -> list[str]:
        """Return the names of changed nodes. Forget changed nodes that have no plugin and no key of ours."""
        names, self.changed = self.changed, set()
        for name in names - self._plugins_of.keys():
            node = self.nodes.get(name)
            if node is None or not any(one.ours and one.capacity is not None for one in node.amounts):
                self.remove_node(name)
        return [name for name in names if self.knows(name)]

    def decide(self, name: str, pods: NodePods | None = None) -> Decision:
        """Decide about a node from the known state and, if the node's Pods were just read, from `pods`."""
        if name in self._doubted:
            return Decision(reads=True)
        node = self.nodes.get(name)
        if node is None:
            return Decision()
        plugins = self._plugins_on(name, pods.plugins if pods else ())
        missing = [self._missing_seconds(plugins, name, resource) for resource in self.rules.resources]
        return decide(node, plugins, pods.requested if pods else None, missing, self.rules)

    def _plugins_on(self, name: str, seen: Iterable[str]) -> Plugins:
        """Return a node's plugins: the watch reported them, or a read of the Pods found them (`seen`)."""
        names = self._plugins_of.get(name, set())
        newest = sorted((self.plugins[one] for one in names), key=lambda one: (one.created, one.name), reverse=True)
        offers = tuple(self._offers[one.name] for one in newest if one.name in self._offers)
        return Plugins(len(names.union(seen)), offers)

    def _missing_seconds(self, plugins: Plugins, name: str, resource: str) -> float:
        if not plugins.is_gone(resource):
            self._missing_since.pop((name, resource), None)
            return 0.0
        now = self.clock()
        return now - self._missing_since.setdefault((name, resource), now)
