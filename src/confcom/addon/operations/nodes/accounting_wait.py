"""Waits until the nodes count their EPC as the new setting wants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from confcom.addon.cluster.inventory_reader import look_at_epc
from confcom.addon.cluster.kubectl import MOST_ASKED, KubeApi
from confcom.addon.cluster.large_lists import list_nodes_and_pods
from confcom.addon.daemons.controller_pods import maximum_mib
from confcom.addon.model.chart_objects import Plan, pod_spec_of
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.nodes.renewed_allocations import renew_allocations
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout_report import NotReadyError
from confcom.addon.status.accounting_change import FORGETTING_SECONDS, NodeAccounting, node_accounting
from confcom.kubernetes.epc_accounting import AccountingSetting
from confcom.kubernetes.objects import KubernetesObject, name_of, node_of

ASK_SECONDS = 5.0
"""Interval between two looks. The kubelet reports every 10 seconds, and each look reads all nodes and Pods."""


def await_accounting(
    add_on: AddOn, setting: AccountingSetting, *, deadline: float, least: float
) -> tuple[NodeAccounting, ...]:
    """Wait until every node with a device plugin has changed, and return how its EPC is counted.

    Nodes that stay as they are for Pods that have ended are changed on the way, each once.

    Args:
        add_on: the add-on of the cluster.
        setting: the new setting.
        deadline: seconds without progress.
        least: seconds after which each node is looked at once more: until then the kubelet may undo what was right.

    Raises:
        NotReadyError: a node has not changed.
        ClusterAccessError: the API server was unreachable until the deadline, or refuses.
    """
    renewed: set[str] = set()
    while True:
        done, stale = _wait(add_on, setting, deadline=deadline, least=least, renewed=renewed)
        if not stale:
            return done
        renew_allocations(add_on, stale, deadline=deadline)
        renewed.update(stale)
        if setting is AccountingSetting.CAPACITY:  # these kubelets begin to forget devices only now
            least = FORGETTING_SECONDS


def _wait(
    add_on: AddOn, setting: AccountingSetting, *, deadline: float, least: float, renewed: Collection[str]
) -> tuple[tuple[NodeAccounting, ...], tuple[str, ...]]:
    """Return all nodes when they have changed, or as soon as there are any, those whose kubelets' records are stale."""
    started = progress = add_on.clock()
    done: dict[str, NodeAccounting] = {}
    last_look = least == 0
    with add_on.reporter.waiting("The nodes change how EPC is counted") as table:
        while True:
            before = len(done)
            still, kept = add_on.retry_while_unreachable(
                lambda: _look(add_on.api, setting, done), deadline=deadline, table=table
            )
            if stale := tuple(one.node for one in kept if one.is_stale and one.helper and one.node not in renewed):
                return (), stale
            if kept and setting.kind is not None:
                raise _kept(kept, add_on.cluster.namespace_flag)
            passed = add_on.clock() - started
            note = f"{passed:.0f} s of at least {least:.0f} s, until kubelets forget devices" if least else ""
            table.show([Row(one.node, one.text, Mark.WAITING) for one in still], note=note)
            if len(done) > before:
                progress = add_on.clock()
            if still and add_on.clock() - progress >= deadline:
                raise _unchanged(still)
            if not still and last_look:
                return tuple(done[node] for node in sorted(done)), ()
            if not still and passed >= least:
                done.clear()
                last_look, progress = True, add_on.clock()
            else:
                add_on.sleep(ASK_SECONDS)


def _look(
    api: KubeApi, setting: AccountingSetting, done: dict[str, NodeAccounting]
) -> tuple[list[NodeAccounting], list[NodeAccounting]]:
    """Add the nodes that have changed to `done`; return the others, and those whose plugins keep what they had.

    At most MOST_ASKED plugins are asked.
    """
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
    here = api.cluster.namespace
    maximum = maximum_mib(pods, here)
    still, kept = [], []
    for node in asked:
        name = name_of(node)
        why = told.unread.get(name, "")
        one = node_accounting(
            node, told.plugins.get(name), setting, pods_on[name], namespace=here, maximum=maximum, why=why
        )
        if one.done:
            done[name] = one
        else:
            still.append(one)
        if one.kept:
            kept.append(one)
    return [*still, *map(_not_asked, waiting[MOST_ASKED:])], kept


def _not_asked(node: KubernetesObject) -> NodeAccounting:
    return NodeAccounting(name_of(node), done=False, text="its device plugin is asked later", told=None)


def _kept(nodes: Sequence[NodeAccounting], where: str) -> NotReadyError:
    """Return the error for nodes whose device plugins keep what they had.

    Args:
        nodes: these.
        where: kubectl's flag for the add-on's namespace.
    """
    what = f"{shown([one.node for one in nodes])} keeps counting EPC as before"
    why = shown([f"{one.node}: {one.text}" for one in nodes])
    if holders := [pod for one in nodes for pod in one.holders]:
        return NotReadyError(
            what,
            error_code="accounting-kept",
            why=f"{why}; Pods that hold devices: {shown(holders)}",
            remedy="end these Pods, then run this command again",
        )
    node = next((one for one in nodes if not one.helper), nodes[0])
    return NotReadyError(
        what,
        error_code="accounting-kept-for-ended-pods",
        why=f"{why}; no Pod there does, but a kubelet remembers ended Pods until it gives a device to another one",
        remedy=f"run a Pod on {node.node} (by spec.nodeName, if the node is cordoned) with {node.other_device} in its "
        f"limits, then kubectl delete pod {where} {node.plugin}, then run this command again",
    )


def _unchanged(nodes: Sequence[NodeAccounting]) -> NotReadyError:
    return NotReadyError(
        f"{shown([one.node for one in nodes])} has not changed how EPC is counted",
        error_code="accounting-not-changed",
        why=shown([f"{one.node}: {one.text}" for one in nodes]),
        remedy="see `confcom status`; the same command again waits on",
    )
