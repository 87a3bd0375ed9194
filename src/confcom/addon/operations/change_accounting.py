"""Changing how the nodes' EPC is counted: explicit, and only on nodes without Pods that have EPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confcom.addon.cluster.inventory_reader import look_at_epc
from confcom.addon.cluster.kubectl import MOST_ASKED
from confcom.addon.cluster.large_lists import list_nodes_and_pods
from confcom.addon.cluster.preflight_reader import InstallRequest, PreflightContext
from confcom.addon.model.chart_objects import SUPPORT_FLAG, Plan, flag_of, pod_spec_of
from confcom.addon.model.epc_accounting import EpcSeen, accounting_settings
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.operations.apply.add_on import AddOn
from confcom.addon.operations.apply.dry_run import Changed, planned
from confcom.addon.operations.apply.up_to_date import apply_if_needed
from confcom.addon.operations.nodes.accounting_wait import await_accounting
from confcom.addon.operations.nodes.root_wait import await_daemons
from confcom.addon.operations.not_enabled import NotEnabledError, other_namespaces
from confcom.addon.rollout.rollout import NodeStep
from confcom.addon.status.accounting_change import (
    FORGETTING_SECONDS,
    NodeAccounting,
    epc_pods,
    in_the_way,
)
from confcom.addon.status.stale_resources import BUSY_KUBELET_SECONDS
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.epc_accounting import AccountingKind, AccountingSetting, CapacitySupport
from confcom.kubernetes.objects import KubernetesObject, name_of, node_of

VALUE = "devicePlugin.accounting"
CHANGING_SECONDS = FORGETTING_SECONDS + BUSY_KUBELET_SECONDS
"""The least time without progress that counts as a failure: a kubelet that forgets devices shows none."""
_REASONS: Mapping[str, str] = {
    CapacitySupport.API_SERVER: "the API server is older than 1.36, and has no MutatingAdmissionPolicy",
    CapacitySupport.OFFLINE: "the chart cannot tell which API server it is for",
    CapacitySupport.POLICY_OFF: "the values turn the policy off that rewrites Pods (admission.mutate)",
    CapacitySupport.CONTROLLER_OFF: "the values turn the controller off (controller.enabled)",
}
"""Why a release cannot count EPC as capacity, by the device plugin's --capacity-support."""


class AccountingRefusedError(ConfcomError):
    """The change of accounting is refused, and nothing was changed."""

    error_code = "epc-pods-running"
    exit_code = ExitCode.REFUSED


@dataclass(frozen=True, slots=True)
class AccountingChanged:
    """The result of the change.

    Args:
        changed: what the change of the release did.
        setting: the new setting.
        nodes: how EPC is counted on the nodes; empty if the command did not wait.
    """

    changed: Changed
    setting: AccountingSetting
    nodes: tuple[NodeAccounting, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return it for `--output json`."""
        nodes = [one.to_json() for one in self.nodes]
        return {**self.changed.to_json(), "setting": self.setting, "accounting": nodes}


def change_accounting(
    add_on: AddOn, setting: AccountingSetting, request: InstallRequest, *, dry_run: bool, wait: bool, deadline: float
) -> AccountingChanged:
    """Change how EPC is counted, on all nodes whose device plugin counts otherwise now.

    Args:
        add_on: the add-on of the cluster.
        setting: the new setting.
        request: the chart, and the values with the new setting.
        dry_run: whether to stop before anything is changed.
        wait: whether to wait until the nodes have changed.
        deadline: seconds without progress after which waiting ends; at least CHANGING_SECONDS count.

    Raises:
        NotEnabledError: there is no release.
        AccountingRefusedError: Pods with EPC run on nodes that would change, or the release cannot count as wanted.
        PreflightError: a check failed.
        HelmError: helm failed.
        NotReadyError: a node has not changed.
    """
    with add_on.interruptible():
        if not add_on.helm.history():
            raise NotEnabledError.of("the accounting cannot be changed", other_namespaces(add_on))
        seen, findings = add_on.preflight(request)
        nodes, pods = list_nodes_and_pods(add_on.api)
        _check(add_on, setting, seen, nodes, pods)
        if dry_run:
            return AccountingChanged(planned(add_on, seen, findings), setting)
        counted = look_at_epc(add_on.api, nodes, pods)
        changed = apply_if_needed(add_on, request, seen)
        patience = max(deadline, CHANGING_SECONDS)
        done: tuple[NodeAccounting, ...] = ()
        steps: tuple[NodeStep, ...] = ()
        if wait:
            remedy = "see `confcom status`; the same command again waits on"
            steps = await_daemons(add_on, "Updating node by node", deadline=patience, remedy=remedy)
            forgetting = changed and setting is AccountingSetting.CAPACITY and _had_devices(counted)
            done = await_accounting(add_on, setting, deadline=patience, least=FORGETTING_SECONDS if forgetting else 0)
        result = Changed(changed, add_on.revision(deadline=deadline), findings, steps)
        return AccountingChanged(result, setting, done)


def _had_devices(seen: EpcSeen) -> bool:
    return bool(seen.unread) or any(told.kind is AccountingKind.DEVICE for told in seen.plugins.values())


def _check(
    add_on: AddOn,
    setting: AccountingSetting,
    seen: PreflightContext,
    nodes: Sequence[KubernetesObject],
    pods: Sequence[KubernetesObject],
) -> None:
    """Refuse what the release cannot do, and what would leave Pods with EPC behind.

    Raises:
        AccountingRefusedError: it is refused.
    """
    plan = seen.surroundings.plan
    plugins = [*plan.plugins(simulated=False), *plan.plugins(simulated=True)] if isinstance(plan, Plan) else []
    supports = {flag_of(one, SUPPORT_FLAG) for one in plugins}
    if setting is AccountingSetting.CAPACITY and supports != {CapacitySupport.SUPPORTED}:
        why = next(iter(supports - {CapacitySupport.SUPPORTED}), "")
        raise AccountingRefusedError(
            "this release cannot count EPC as capacity",
            error_code="capacity-not-supported",
            why=_REASONS.get(why, why),
            remedy="see docs/explanation/epc-accounting.md for what it needs",
        )
    told_by = [(pod_spec_of(one), accounting_settings(one)) for one in plugins]
    settings = {name_of(node): one for node in nodes for spec, one in told_by if selects(spec, node)}
    served = [node for node in nodes if name_of(node) in settings]
    there = {node: some for node, some in epc_pods(pods, add_on.cluster.namespace).items() if node in settings}
    ordered = sorted(there)
    for first in range(0, len(ordered), MOST_ASKED):
        some = ordered[first : first + MOST_ASKED]
        asked = [pod for pod in pods if node_of(pod) in some]
        told = look_at_epc(add_on.api, served, asked, every_node=True).plugins
        batch = {node: there[node] for node in some}
        if found := dict(in_the_way(batch, told, settings)):
            raise _pods_running(found)


def _pods_running(found: Mapping[str, Sequence[str]]) -> AccountingRefusedError:
    pods = [pod for names in found.values() for pod in names]
    first = next(iter(found))
    return AccountingRefusedError(
        f"{len(pods)} Pods with EPC run on nodes that would change: {shown(list(found))}",
        why=f"the kubelet counts their EPC as before, and would refuse new Pods for as long as they run: {shown(pods)}",
        remedy=f"end them, or move them to other nodes (kubectl drain {first} --ignore-daemonsets), keep the nodes "
        "cordoned, then run this command again and uncordon them",
    )
