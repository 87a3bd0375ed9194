"""Reads everything from helm and the cluster that the preflight checks need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from confcom.addon.cluster.helm import RELEASE, BusyError, Helm, Rendering, Values
from confcom.addon.cluster.inventory_reader import read_inventories
from confcom.addon.cluster.kubectl import MOST_ASKED, KubeApi
from confcom.addon.cluster.large_lists import list_nodes, list_own_pods
from confcom.addon.model.chart_objects import Plan
from confcom.addon.model.epc_accounting import PluginEpc, nodes_to_ask, plugin_epc
from confcom.addon.model.node_selection import with_label
from confcom.addon.model.sgx_nodes import SIMULATED_LABEL
from confcom.addon.preflight.admission import ProbeAnswer, pod_probe
from confcom.addon.preflight.epc_names import MUTATE, leaves_names
from confcom.addon.preflight.findings import Outcome
from confcom.addon.preflight.hardware_quotes import (
    DevicesSeen,
    hardware_helper_sets,
    provision_device,
)
from confcom.addon.preflight.permissions import (
    CLEANING,
    USUAL_HOOK_KINDS,
    USUAL_KINDS,
    Permission,
    asking_helpers,
    denied,
    needed,
    probing,
)
from confcom.addon.preflight.preflight import ENFORCE_LABEL, PRIVILEGED, Surroundings
from confcom.addon.preflight.versions import check_helm
from confcom.addon.release.revision_history import Revision
from confcom.addon.release.running_change import busy
from confcom.errors import ConfcomError
from confcom.kubernetes.objects import (
    KubernetesObject,
    condition,
    labels_of,
    name_of,
    namespace_of,
    node_of,
    owner_of,
    text,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What is to be installed.

    Args:
        chart: the chart's folder or archive.
        values: the values that the user sets, on top of those that the release has.
        simulated_nodes: nodes that are to be labelled for simulation.
        allow_no_nodes: whether nodes may be added later.
    """

    chart: Path
    values: Values
    simulated_nodes: tuple[str, ...] = ()
    allow_no_nodes: bool = False


@dataclass(frozen=True, slots=True)
class PreflightContext:
    """The data that preflight read.

    Args:
        surroundings: the input of the checks.
        history: the release's revisions; empty also if they could not be read.
        values: the requested values, on top of the release's.
        rendering: what would be installed; None if the chart could not be rendered.
    """

    surroundings: Surroundings
    history: tuple[Revision, ...]
    values: Values
    rendering: Rendering | None


def survey(helm: Helm, api: KubeApi, request: InstallRequest, now: Callable[[], datetime]) -> PreflightContext:
    """Read everything that the checks need. Failed look-ups are stored; only dependent checks are skipped."""
    version, server = _try(helm.version), _try(api.server_version)
    base = Surroundings(api.cluster.namespace, RELEASE, version, server, allow_no_nodes=request.allow_no_nodes)
    if check_helm(version).outcome is Outcome.FAILED or isinstance(server, ConfcomError):
        return PreflightContext(base, (), request.values, None)
    with futures.ThreadPoolExecutor(max_workers=1) as pool:  # helm renders meanwhile, which takes longest
        listing = pool.submit(_try, lambda: list_nodes(api))
        named = pool.submit(_try, api.find_namespace)
        listed = pool.submit(_try, lambda: api.list_objects("daemonsets", "--all-namespaces"))
        history = _try(helm.history)
        stored = {} if isinstance(history, ConfcomError) or not history else _try(helm.values)
        values = dataclasses.replace(request.values, stored={} if isinstance(stored, ConfcomError) else stored)
        unreadable = [one for one in (history, stored) if isinstance(one, ConfcomError)]
        rendering = unreadable[0] if unreadable else _try(lambda: helm.render(request.chart, values))
        nodes, namespace, daemon_sets = listing.result(), named.result(), listed.result()
    if isinstance(rendering, Rendering) and isinstance(nodes, Sequence) and leaves_names(rendering.config, nodes):
        values = dataclasses.replace(values, settings=(*values.settings, f"{MUTATE}=off"))
        rendering = _try(lambda: helm.render(request.chart, values))
    if isinstance(rendering, BusyError):
        rendering = _try(lambda: busy(helm.history(), now()))
    plan = rendering if isinstance(rendering, ConfcomError) else Plan((*rendering.manifests, *rendering.hooks))
    lacking = _try(lambda: _denied(api, request, plan, is_there=namespace is not None))
    found = dataclasses.replace(
        base,
        plan=plan,
        namespace=namespace,
        daemon_sets=daemon_sets,
        denied=lacking,
        answers=_answers(api, plan, namespace, lacking) if isinstance(plan, Plan) else None,
    )
    devices, epc = _hardware(api, plan, daemon_sets, nodes)
    found = dataclasses.replace(found, devices=devices, epc=epc)
    found = _with_nodes(found, nodes, request.simulated_nodes)
    return PreflightContext(
        found,
        () if isinstance(history, ConfcomError) else history,
        values,
        None if isinstance(rendering, ConfcomError) else rendering,
    )


def _hardware(
    api: KubeApi,
    plan: Plan | ConfcomError,
    daemon_sets: Sequence[KubernetesObject] | ConfcomError | None,
    nodes: Sequence[KubernetesObject] | ConfcomError,
) -> tuple[DevicesSeen | None, Mapping[str, PluginEpc]]:
    """Ask the running device plugins of hardware nodes for their EPC, and for the device that quote helpers need."""
    if not (isinstance(plan, Plan) and isinstance(daemon_sets, Sequence) and isinstance(nodes, Sequence)):
        return None, {}
    here = [one for one in daemon_sets if namespace_of(one) == api.cluster.namespace]
    owners = {name_of(one) for one in Plan(tuple(here)).plugins(simulated=False)}
    if not owners:
        return None, {}
    pods = _try(lambda: list_own_pods(api))
    if isinstance(pods, ConfcomError):
        return None, {}  # the check of the permissions tells it
    ready = {node_of(one): one for one in pods if text(owner_of(one), "name") in owners and _is_ready(one)}
    quotes = bool(hardware_helper_sets(plan.daemon_sets))
    asked = sorted(ready)[:MOST_ASKED] if quotes else nodes_to_ask(nodes, ready)
    answers = read_inventories(api, {node: name_of(ready[node]) for node in asked})
    unread = dict.fromkeys(ready.keys() - asked, f"only {MOST_ASKED} were asked")
    unread |= {node: one.why or one.what for node, one in answers.items() if isinstance(one, ConfcomError)}
    told = {node: one for node, one in answers.items() if not isinstance(one, ConfcomError)}
    epc = {node: found for node, one in told.items() if (found := plugin_epc(one))}
    if not quotes:
        return None, epc
    devices = {node: device for node, one in told.items() if (device := provision_device(one))}
    return DevicesSeen(devices, unread), epc


def _is_ready(pod: KubernetesObject) -> bool:
    return condition(pod, "Ready").get("status") == "True" and not text(pod, "metadata", "deletionTimestamp")


def _with_nodes(
    found: Surroundings, nodes: Sequence[KubernetesObject] | ConfcomError, chosen: Sequence[str]
) -> Surroundings:
    if isinstance(nodes, ConfcomError):
        return dataclasses.replace(found, nodes=nodes)
    known = {name_of(node): labels_of(node) for node in nodes}
    return dataclasses.replace(
        found,
        nodes=[with_label(one, SIMULATED_LABEL, "true") if name_of(one) in chosen else one for one in nodes],
        unknown_nodes=[name for name in chosen if name not in known],
        unlabelled_nodes=[name for name in chosen if known.get(name, {}).get(SIMULATED_LABEL) != "true"],
    )


def _denied(
    api: KubeApi, request: InstallRequest, plan: Plan | ConfcomError, *, is_there: bool
) -> Sequence[Permission]:
    here = api.cluster.namespace
    kinds, hooks = (plan.kinds, plan.hook_kinds) if isinstance(plan, Plan) else (USUAL_KINDS, USUAL_HOOK_KINDS)
    asked = needed(kinds, hooks, here, namespace_is_there=is_there, labels_nodes=bool(request.simulated_nodes))
    asked = (*asked, CLEANING, probing(here))
    if hooks:
        asked = (*asked, asking_helpers(here))
    return denied(asked, api.review([one.review() for one in asked]))


def _answers(
    api: KubeApi,
    plan: Plan,
    namespace: KubernetesObject | ConfcomError | None,
    lacking: Sequence[Permission] | ConfcomError,
) -> dict[str, ProbeAnswer] | None:
    if isinstance(namespace, ConfcomError):
        return None
    if namespace is None or labels_of(namespace).get(ENFORCE_LABEL, PRIVILEGED) != PRIVILEGED:
        return {}  # a new namespace gets the right level; otherwise the check reads the level from its label
    permission = probing(api.cluster.namespace)
    if not isinstance(lacking, ConfcomError) and permission in lacking:
        doubt = ProbeAnswer(doubt=f"not allowed: {permission}, which the trial needs (it creates no object)")
        return {name_of(one): doubt for one in plan.daemon_sets}
    return {name_of(one): api.refusal(pod_probe(one, api.cluster.namespace)) for one in plan.daemon_sets}


def _try(ask: Callable[[], T]) -> T | ConfcomError:
    try:
        return ask()
    except ConfcomError as error:
        return error
