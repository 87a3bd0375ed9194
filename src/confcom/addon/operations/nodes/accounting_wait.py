"""Waits until the nodes count their EPC as the new setting wants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from confcom.addon.cluster.inventory_reader import look_at_epc
from confcom.addon.cluster.kubectl import MOST_ASKED, KubeApi
from confcom.addon.cluster.large_lists import list_nodes_and_pods
from confcom.addon.model.chart_objects import Plan, pod_spec_of
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.model.resources import set_of
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout_report import NotReadyError
from confcom.addon.status.accounting_change import NodeAccounting, Setting, node_accounting
from confcom.addon.workloads.workloads import used
from confcom.kubernetes.objects import KubernetesObject, name_of, node_of

ASK_SECONDS = 5.0
"""Interval between two looks. The kubelet reports every 10 seconds, and each look reads all nodes and Pods."""


def await_accounting(add_on: AddOn, setting: Setting, *, deadline: float, least: float) -> tuple[NodeAccounting, ...]:
    """Wait until every node with a device plugin has changed, and return how its EPC is counted.

    Args:
        add_on: the add-on of the cluster.
        setting: the new setting.
        deadline: seconds without progress.
        least: seconds after which each node is looked at once more: until then the kubelet may undo what was right.

    Raises:
        NotReadyError: a node has not changed.
        ClusterAccessError: the API server was unreachable until the deadline, or refuses.
    """
    started = progress = add_on.clock()
    done: dict[str, NodeAccounting] = {}
    last_look = least == 0
    with add_on.reporter.waiting("The nodes change how EPC is counted") as table:
        while True:
            before = len(done)
            still = add_on.retry_while_unreachable(
                lambda: _look(add_on.api, setting, done), deadline=deadline, table=table
            )
            passed = add_on.clock() - started
            note = f"{passed:.0f} s of at least {least:.0f} s, until kubelets forget devices" if least else ""
            table.show([Row(one.node, one.text, Mark.WAITING) for one in still], note=note)
            if kept := [one for one in still if one.kept]:
                raise _kept(kept)
            if len(done) > before:
                progress = add_on.clock()
            if still and add_on.clock() - progress >= deadline:
                raise _unchanged(still)
            if not still and last_look:
                return tuple(done[node] for node in sorted(done))
            if not still and passed >= least:
                done.clear()
                last_look, progress = True, add_on.clock()
            else:
                add_on.sleep(ASK_SECONDS)


def _look(api: KubeApi, setting: Setting, done: dict[str, NodeAccounting]) -> list[NodeAccounting]:
    """Add the nodes that have changed to `done`, and return the others; at most MOST_ASKED plugins are asked."""
    nodes, pods = list_nodes_and_pods(api)
    plan = Plan(api.list_objects("daemonsets.apps", api.cluster.namespace_flag))
    plugins = [*plan.plugins(simulated=False), *plan.plugins(simulated=True)]
    served = [node for node in nodes if any(selects(pod_spec_of(one), node) for one in plugins)]
    waiting = [node for node in served if name_of(node) not in done]
    pods_on = defaultdict(list)
    for pod in pods:
        pods_on[node_of(pod)].append(pod)
    asked = waiting[:MOST_ASKED]
    told = look_at_epc(api, asked, [pod for node in asked for pod in pods_on[name_of(node)]], every_node=True)
    still = []
    for node in asked:
        name = name_of(node)
        requested = used(pods_on[name], name, set_of(node).epc)
        why = told.unread.get(name, "")
        one = node_accounting(node, told.plugins.get(name), setting, requested=requested, why=why)
        if one.done:
            done[name] = one
        else:
            still.append(one)
    return [*still, *map(_not_asked, waiting[MOST_ASKED:])]


def _not_asked(node: KubernetesObject) -> NodeAccounting:
    return NodeAccounting(name_of(node), done=False, kept=False, text="its device plugin is asked later", told=None)


def _kept(nodes: Collection[NodeAccounting]) -> NotReadyError:
    return NotReadyError(
        f"{shown([one.node for one in nodes])} keeps counting EPC as before",
        error_code="accounting-kept",
        why=next(iter(nodes)).text,
        remedy="Pods with EPC were started meanwhile: end them, then run this command again",
    )


def _unchanged(nodes: Sequence[NodeAccounting]) -> NotReadyError:
    return NotReadyError(
        f"{shown([one.node for one in nodes])} has not changed how EPC is counted",
        error_code="accounting-not-changed",
        why=shown([f"{one.node}: {one.text}" for one in nodes]),
        remedy="see `confcom status`; the same command again waits on",
    )
