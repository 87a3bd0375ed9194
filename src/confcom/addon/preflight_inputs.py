"""Reads from helm and the cluster what the checks before a change need, and asks admission about the daemons' Pods."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from confcom.addon import api as kinds
from confcom.addon import chart_objects as chart
from confcom.addon import preflight
from confcom.addon.api import AT_ONCE, CLUSTER_WIDE, plural
from confcom.addon.helm import Helm, Rendering, Values
from confcom.addon.login import Cluster
from confcom.addon.owned_objects import is_helms, owned_objects
from confcom.addon.preflight import Finding, Need, Outcome, Permission, PreflightInputs
from confcom.addon.simulated_root import secret_name
from confcom.addon.snapshot import UTC_NOW, Now, read_root, reduced_node
from confcom.addon.tenants import TenantPod, tenants
from confcom.errors import ConfcomError
from confcom.kubernetes.epc_accounting import EPC_FLAGS
from confcom.kubernetes.objects import KubernetesObject, labels_of, mapping, name_of, namespace_of, text

R = TypeVar("R")
Objects = Sequence[KubernetesObject]

_USUAL = (("daemonsets", "apps", True), ("validatingadmissionpolicies", "admissionregistration.k8s.io", False))
"""Resources of the chart's objects if it cannot be rendered, so that missing permissions are reported all at once."""


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """The requested installation; nodes without the label are labelled for simulation."""

    chart: Path
    values: Values
    simulated_nodes: tuple[str, ...] = ()
    allow_no_nodes: bool = False
    """Whether nodes may be added later."""
    new_root: bool | None = None
    """Whether a simulated root is made if its Secret is missing; None: where no quote helper simulates yet."""


def gather_preflight_inputs(
    cluster: Cluster, helm: Helm, request: InstallRequest, now: Now = UTC_NOW
) -> PreflightInputs:
    """Read everything that the checks need. A failed request is stored as its error, and skips what depends on it."""
    api, place = cluster.api, cluster.namespace
    versions = _attempt(helm.version), _attempt(api.server_version)
    inputs = PreflightInputs(place, *versions, request.values, request.allow_no_nodes)
    if any(finding.outcome is Outcome.FAILED for finding in preflight.check_versions(inputs)):
        return inputs
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        named = pool.submit(_attempt, lambda: api.get(kinds.NAMESPACE, place))
        daemon_sets = pool.submit(_attempt, lambda: tuple(api.list(kinds.DAEMON_SET)))
        ranges = pool.submit(_attempt, lambda: tuple(api.list(kinds.LIMIT_RANGE)))
        nodes = _attempt(lambda: tuple(map(reduced_node, api.list(kinds.NODE))))
        inputs = _with_release(_with_nodes(inputs, nodes, request.simulated_nodes), helm, request.chart)
        inputs = replace(inputs, namespace=named.result(), daemon_sets=daemon_sets.result())
        manifests = inputs.rendering.manifests if isinstance(inputs.rendering, Rendering) else ()
        installed = chart.daemons_in(inputs.daemon_sets if isinstance(inputs.daemon_sets, tuple) else ())
        if secret := secret_name(manifests):
            first = not secret_name(one for one in installed if namespace_of(one) == place)
            makes_root = first if request.new_root is None else request.new_root
            inputs = replace(inputs, root=_attempt(lambda: read_root(cluster, secret, now)), makes_root=makes_root)
        with contextlib.suppress(ConfcomError):  # the checks say which permission is missing
            known = nodes if isinstance(nodes, tuple) else ()
            inputs = replace(inputs, pods=affected_pods(cluster, installed, manifests, known))
        needs = [Need.CHANGE, *([Need.NODE_LABELS] if request.simulated_nodes else [])]
        needs += [Need.NEW_NAMESPACE] if inputs.namespace is None else []
        daemons = chart.daemons_in(manifests) if isinstance(inputs.namespace, Mapping) else ()
        answers = pool.map(lambda daemon: _attempt(lambda: api.create(_probe(daemon, place), dry_run=True)), daemons)
        admission = {name_of(one): answer for one, answer in zip(daemons, answers, strict=True)}
        return replace(
            inputs,
            limit_ranges=ranges.result(),
            denied=_attempt(lambda: denied_permissions(cluster, needs, manifests)),
            admission={name: answer for name, answer in admission.items() if isinstance(answer, ConfcomError)},
        )


def check_rollback(
    cluster: Cluster, manifests: Sequence[KubernetesObject], revision: int, now: Now = UTC_NOW
) -> tuple[Finding, ...]:
    """Return findings about the permissions; if they suffice, about what the revision's objects lack."""
    api, place = cluster.api, cluster.namespace
    permissions = preflight.check_permissions(denied_permissions(cluster, [Need.CHANGE], manifests))
    if permissions.outcome is Outcome.FAILED:
        return (permissions,)
    secret = secret_name(manifests)
    labels = {chart.NAME_LABEL: chart.RELEASE, chart.INSTANCE_LABEL: chart.RELEASE}
    installed = chart.daemons_in(api.list(kinds.DAEMON_SET, place, labels=labels))
    anyway = f"helm rollback {chart.RELEASE} {revision} --namespace={place}"
    nodes = tuple(map(reduced_node, api.list(kinds.NODE)))
    pods = affected_pods(cluster, installed, manifests, nodes)
    return (
        permissions,
        *preflight.check_revision(manifests, nodes, installed, anyway),
        *preflight.check_root(read_root(cluster, secret, now) if secret else None, makes_root=False),
        *preflight.check_kept_epc(manifests, nodes, installed, pods),
        *preflight.check_quotes(manifests, nodes, installed, pods),
    )


def affected_pods(cluster: Cluster, installed: Objects, new: Objects, nodes: Objects) -> tuple[TenantPod, ...]:
    """Return tenants' Pods with the add-on's resources; none, without reading Pods, if a change takes nothing away."""
    before, after = (
        {(name_of(one), *(chart.flag_of(one, flag) for flag in EPC_FLAGS)) for one in chart.daemons_in(some)}
        for some in (installed, new)
    )
    most = max((chart.allocatable(node, chart.set_of(node).epc) for node in nodes), default=0)
    less = before and (before != after or most > (chart.capacity_limit(new) or most))
    kept = map(name_of, chart.selected(chart.daemons_in(new), nodes))
    left = {name_of(node) for node in nodes if chart.offered(node)}.difference(kept)
    if not (less or left or preflight.losing_nodes(new, nodes, installed)):
        return ()
    return tenants(cluster.api.list(kinds.POD), cluster.namespace)


def denied_permissions(
    cluster: Cluster, needs: Iterable[Need], manifests: Iterable[KubernetesObject]
) -> tuple[Permission, ...]:
    """Return the permissions that this user lacks for a command that changes these objects of the release."""
    kinds = {(text(one, "kind"), text(one, "apiVersion").rpartition("/")[0]) for one in manifests}
    resources = [(plural(kind), group, kind not in CLUSTER_WIDE) for kind, group in kinds] or _USUAL
    asked = preflight.permissions_needed(needs, resources, cluster.namespace)
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda one: cluster.api.is_allowed(one.attributes), asked))
    return tuple(one for one, allowed in zip(asked, answers, strict=True) if not allowed)


def _attempt(read: Callable[[], R]) -> R | ConfcomError:
    try:
        return read()
    except ConfcomError as error:
        return error


def _with_release(inputs: PreflightInputs, helm: Helm, folder: Path) -> PreflightInputs:
    values, nodes = inputs.values, inputs.nodes
    try:
        history = helm.history()
        installed = helm.manifests() if history else ()
        values = replace(values, stored=helm.values() if history else {})
        rendering = helm.render(folder, values)
        if isinstance(nodes, Sequence) and preflight.leaves_names(rendering.config, nodes):
            values = replace(values, settings=(*values.settings, f"{preflight.MUTATE}=off"))
            rendering = helm.render(folder, values)
    except ConfcomError as error:
        return replace(inputs, rendering=error)
    inputs = replace(inputs, history=history, values=values, installed=installed, rendering=rendering)
    kept = {(text(one, "kind"), name_of(one)) for one in (*rendering.manifests, *installed)}
    with contextlib.suppress(ConfcomError):  # without the permission to list, nothing of it is removed
        found = filter(is_helms, owned_objects(helm.cluster))
        return replace(inputs, unrecorded=tuple(one for one in found if (one["kind"], name_of(one)) not in kept))
    return inputs


def _with_nodes(
    inputs: PreflightInputs, nodes: tuple[KubernetesObject, ...] | ConfcomError, chosen: tuple[str, ...]
) -> PreflightInputs:
    if isinstance(nodes, ConfcomError):
        return replace(inputs, nodes=nodes)
    known = {name_of(node): node for node in nodes}
    label = {chart.SIMULATED_LABEL: "true"}
    there = [known[name] for name in dict.fromkeys(chosen) if name in known]
    for node in there:
        known[name_of(node)] = {**node, "metadata": {**node["metadata"], "labels": {**labels_of(node), **label}}}
    return replace(
        inputs,
        nodes=tuple(known.values()),
        unknown_nodes=tuple(name for name in chosen if name not in known),
        unlabelled_nodes=tuple(name_of(node) for node in there if not label.items() <= labels_of(node).items()),
    )


def _probe(daemon: KubernetesObject, namespace: str) -> KubernetesObject:
    """Return a Pod from the DaemonSet's template; its own ServiceAccount may not exist yet."""
    template = mapping(daemon, "spec", "template")
    metadata = {**mapping(template, "metadata"), "name": f"{name_of(daemon)}-preflight", "namespace": namespace}
    spec = {**mapping(template, "spec"), "serviceAccountName": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
