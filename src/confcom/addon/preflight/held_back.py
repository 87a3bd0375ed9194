"""How much EPC the device plugins will hold back: more than they may offer as devices. Pure.

It is decided as the plugins will, from the flags that the chart gives them. What a node has is known of simulated
nodes, and of hardware nodes where a device plugin runs already. What a simulated node has in its status it may keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from confcom.addon.model.chart_objects import SUPPORT_FLAG, Plan, flag_of, number_in_flag, pod_spec_of, simulates
from confcom.addon.model.epc_accounting import PluginEpc, accounting_settings
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.model.resources import offered, set_of
from confcom.addon.preflight.findings import Check, Finding
from confcom.addon.preflight.hardware_quotes import HELPERS_AT_ONCE
from confcom.kubernetes.epc_accounting import AccountingSetting, CapacitySupport, EpcInUse, decide_accounting
from confcom.kubernetes.objects import KubernetesObject, name_of


def check_held_back(plan: Plan, nodes: Sequence[KubernetesObject], told: Mapping[str, PluginEpc]) -> Iterator[Finding]:
    """Check whether nodes have more EPC than they will offer.

    Args:
        plan: what is to be installed.
        nodes: the cluster's nodes.
        told: by node, what the running device plugins of nodes with SGX hardware told.
    """
    held: dict[str, tuple[int, int]] = {}
    plugins = [*plan.plugins(simulated=True), *plan.plugins(simulated=False)]
    for plugin in plugins:
        for node in nodes:
            name = name_of(node)
            epc = told.get(name)
            found = _number(plugin, "--simulated-epc-mib") if simulates(plugin) else epc.found if epc else 0
            if found and selects(pod_spec_of(plugin), node):
                tenants = found - _number(plugin, "--reserve-epc-mib")
                tenants -= HELPERS_AT_ONCE * _number(plugin, "--helper-epc-mib")
                if (more := tenants - _most(plugin, tenants, node, epc)) > 0:
                    held[name] = (more, tenants)
    if held:
        first = min(held)
        more, tenants = held[first]
        support = next(filter(None, (flag_of(one, SUPPORT_FLAG) for one in plugins)), "")
        yield Finding.warning(
            Check.NODES,
            f"EPC is held back on {shown(sorted(held))}: {more} of {tenants} MiB on {first}",
            why="it is counted as devices of the kubelet there, of which a node offers no more"
            + ("" if support == CapacitySupport.SUPPORTED else "; this cluster cannot count EPC as capacity"),
            remedy="see docs/explanation/epc-accounting.md for what counting as capacity needs; devicePlugin.maxEpcMiB "
            "sets the limit, and ends this warning",
            code="epc-held-back",
        )


def _most(plugin: KubernetesObject, tenants: int, node: KubernetesObject, told: PluginEpc | None) -> int:
    """Return how much a plugin will offer at most; all of it where a value says so, since that is meant."""
    settings = accounting_settings(plugin)
    if settings.max_epc_mib is not None or settings.setting is AccountingSetting.CAPACITY:
        return tenants
    most = decide_accounting(settings, EpcInUse() if told is None else told.in_use, tenants).offered(tenants)
    # The plugin of a simulated node is not asked: its node keeps at least what it has, if these are devices.
    return most if told is not None else max(most, offered(node).get(set_of(node).epc, 0))


def _number(plugin: KubernetesObject, flag: str) -> int:
    return number_in_flag(plugin, flag) or 0
