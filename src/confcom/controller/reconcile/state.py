"""What the controller knows of the cluster, in memory: facts of nodes and Pods, and the plugins' answers. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from confcom.controller.reconcile.decision import Decision, Plugins, Rules, decide
from confcom.controller.reconcile.facts import NodeFacts, Offer, PluginPod, PodFacts, PodKey, Requested


class ClusterState:
    """What is known of a cluster, and which nodes have to be looked at again.

    Args:
        rules: what is configured.
        clock: monotonic seconds.
    """

    def __init__(self, rules: Rules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._nodes: dict[str, NodeFacts] = {}
        self._pods: dict[PodKey, PodFacts] = {}
        self._pods_of: dict[str, set[PodKey]] = {}
        self._offers: dict[PodKey, tuple[str, Offer]] = {}
        self._missing_since: dict[tuple[str, str], float] = {}
        self._changed: set[str] = set()
        self._unasked: set[PodKey] = set()

    @property
    def nodes(self) -> Mapping[str, NodeFacts]:
        """All nodes, by name."""
        return self._nodes

    def set_node(self, node: NodeFacts) -> None:
        """Set the facts of a node that exists."""
        if self._nodes.get(node.name) != node:
            self._nodes[node.name] = node
            self._changed.add(node.name)

    def remove_node(self, name: str) -> None:
        """Remove a node that does not exist any more."""
        if self._nodes.pop(name, None) is not None:
            for resource in self._rules.resources:
                self._missing_since.pop((name, resource), None)

    def set_pod(self, key: PodKey, pod: PodFacts | None) -> None:
        """Set the facts of a Pod; None removes it: it does not exist, has ended, or does not matter."""
        before = self._pods.get(key)
        if before == pod:
            return
        if before is not None:
            self._changed.add(before.node)
            if pod is None or pod.node != before.node:
                self._unlist(before)
        if pod is None:
            self._pods.pop(key, None)
            self._offers.pop(key, None)
            return
        self._pods[key] = pod
        if pod.plugin is not None and (before is None or before.plugin != pod.plugin):
            self._unasked.add(key)
        self._pods_of.setdefault(pod.node, set()).add(key)
        self._changed.add(pod.node)

    def keep_nodes(self, names: set[str]) -> None:
        """Remove all other nodes, after a complete list."""
        for name in self._nodes.keys() - names:
            self.remove_node(name)

    def keep_pods(self, keys: set[PodKey]) -> None:
        """Remove all other Pods, after a complete list."""
        for key in self._pods.keys() - keys:
            self.set_pod(key, None)

    def take_unasked(self) -> list[PodKey]:
        """Return the plugins that are new or have changed; each is returned once."""
        keys = [key for key in self._unasked if self.plugin(key) is not None]
        self._unasked.clear()
        return keys

    def plugin(self, key: PodKey) -> PluginPod | None:
        """Return one plugin, or None if it is gone."""
        pod = self._pods.get(key)
        return pod.plugin if pod is not None else None

    def set_offer(self, key: PodKey, incarnation: str, offer: Offer) -> None:
        """Set what a plugin answered, unless the plugin has changed meanwhile."""
        plugin = self.plugin(key)
        if plugin is None or plugin.incarnation != incarnation or self._offers.get(key) == (incarnation, offer):
            return
        self._offers[key] = (incarnation, offer)
        self._changed.add(self._pods[key].node)

    def plugins_by_accounting(self) -> Counter[str]:
        """Return how many plugins have EPC counted how; `unknown` are those that have not answered."""
        found = Counter(offer.accounting.value for _, offer in self._offers.values())
        found["unknown"] = sum(pod.plugin is not None for pod in self._pods.values()) - found.total()
        return found

    def pods_on(self, name: str) -> list[PodFacts]:
        """Return the Pods of a node."""
        return [self._pods[key] for key in self._pods_of.get(name, ())]

    def requested(self, name: str) -> tuple[Requested, ...]:
        """Return what the bound Pods of a node request, for each resource."""
        return self._sums(self.pods_on(name))

    def mark_changed(self, name: str) -> None:
        """Have a node looked at again, although nothing is known to have changed."""
        if name in self._nodes:
            self._changed.add(name)

    def take_changed(self) -> list[str]:
        """Return the names of the nodes to look at; each is returned once."""
        names = [name for name in self._changed if name in self._nodes]
        self._changed.clear()
        return names

    def decide(self, name: str) -> Decision:
        """Decide about a node, by what is known."""
        node = self._nodes.get(name)
        return Decision() if node is None else self.decide_for(node, self.pods_on(name))

    def decide_for(self, node: NodeFacts, pods: Sequence[PodFacts]) -> Decision:
        """Decide about a node as it was read just now, with its Pods.

        Neither is kept: what was read may be older than what the watches tell meanwhile.
        """
        plugins = self._plugins_of(pods)
        missing = [self._missing_seconds(plugins, node.name, resource) for resource in self._rules.resources]
        return decide(node, plugins, self._sums(pods), missing, self._rules)

    def _sums(self, pods: Sequence[PodFacts]) -> tuple[Requested, ...]:
        return tuple(
            Requested(
                sum(pod.requests[index] for pod in pods), sum(pod.requests[index] for pod in pods if pod.accepted)
            )
            for index in range(len(self._rules.resources))
        )

    def _plugins_of(self, pods: Sequence[PodFacts]) -> Plugins:
        found = [(pod.plugin.created, pod.key) for pod in pods if pod.plugin is not None]
        found.sort(reverse=True)
        return Plugins(len(found), tuple(self._offers[key][1] for _, key in found if key in self._offers))

    def _missing_seconds(self, plugins: Plugins, name: str, resource: str) -> float:
        if not plugins.misses(resource):
            self._missing_since.pop((name, resource), None)
            return 0.0
        now = self._clock()
        return now - self._missing_since.setdefault((name, resource), now)

    def _unlist(self, pod: PodFacts) -> None:
        keys = self._pods_of[pod.node]
        keys.discard(pod.key)
        if not keys:
            del self._pods_of[pod.node]
