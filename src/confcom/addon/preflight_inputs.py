"""Read the inputs of the preflight checks from helm and the cluster, and create the daemons' Pods in a dry run."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from confcom.addon import api as kinds
from confcom.addon import chart_objects as chart
from confcom.addon import preflight
from confcom.addon.api import AT_ONCE, CLUSTER_WIDE, Api, at_once, plural
from confcom.addon.helm import Helm, Values
from confcom.addon.login import Cluster
from confcom.addon.owned_objects import LABELS, is_helms, owned_objects
from confcom.addon.preflight import Check, Finding, Need, Nodes, Outcome, Permission, PreflightInputs
from confcom.addon.simulated_root import secret_name
from confcom.addon.snapshot import Now, read_nodes, read_root
from confcom.addon.tenants import TenantPod, tenants
from confcom.errors import ConfcomError
from confcom.kubernetes.epc_accounting import EPC_FLAGS
from confcom.kubernetes.names import INTEL_EPC, RELEASE
from confcom.kubernetes.node_selection import SIMULATED_LABEL
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of, namespace_of, requires, text
from confcom.kubernetes.workload import Workload

R = TypeVar("R")

_USUAL = (("daemonsets", "apps", True), ("validatingadmissionpolicies", "admissionregistration.k8s.io", False))
"""Resources whose permissions are checked if the chart cannot be rendered."""


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """The requested installation. The simulation label is added to `simulated_nodes` that lack the label."""

    chart: Path
    values: Values
    simulated_nodes: tuple[str, ...] = ()
    allow_no_nodes: bool = False
    """Whether to install even if the cluster has no SGX node yet."""
    new_root: bool | None = None
    """Whether to create a missing Secret of the simulated root. If None: only if no helper simulates yet."""


def gather_preflight_inputs(helm: Helm, request: InstallRequest, now: Now) -> PreflightInputs:
    """Read the inputs of all checks. If a read fails, store the error. Inputs that need this read stay empty."""
    cluster, errors = helm.cluster, dict[Check, ConfcomError]()
    api, place = cluster.api, cluster.namespace

    def attempt(check: Check, read: Callable[[], R]) -> R | None:
        try:
            return read()
        except ConfcomError as error:
            errors[check] = error
            return None

    versions = attempt(Check.HELM, helm.version) or "", attempt(Check.KUBERNETES, api.server_version) or ""
    inputs = PreflightInputs(place, request.values, *versions, errors, request.allow_no_nodes)
    if errors or any(finding.outcome is Outcome.FAILED for finding in preflight.check_versions(inputs)):
        return inputs
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        namespace = pool.submit(attempt, Check.POD_SECURITY, partial(api.get, kinds.NAMESPACE, place))
        owners = pool.submit(attempt, Check.OWNERS, lambda: tuple(map(Workload.parse, api.list(kinds.DAEMON_SET))))
        ranges = pool.submit(_limit_ranges, api)
        nodes = attempt(Check.NODES, partial(read_nodes, api))
        inputs = inputs if nodes is None else _with_nodes(inputs, nodes, request.simulated_nodes)
        inputs = attempt(Check.VALUES, partial(_with_release, inputs, helm, request.chart)) or inputs
        inputs = replace(inputs, has_namespace=bool(namespace.result()), daemon_sets=owners.result() or ())
        new = inputs.rendering.workloads if inputs.rendering else ()
        installed = chart.daemons_in(inputs.daemon_sets)
        if secret := secret_name(new):
            first = not secret_name(daemon for daemon in installed if daemon.namespace == place)
            makes_root = first if request.new_root is None else request.new_root
            root = attempt(Check.SIMULATION, lambda: read_root(cluster, secret, now))
            inputs = replace(inputs, root=root, makes_root=makes_root)
        with contextlib.suppress(ConfcomError):  # the permission check reports the cause
            inputs = replace(inputs, pods=affected_pods(cluster, installed, new, nodes or ()))
        needs = [Need.CHANGE, *([Need.NODE_LABELS] if request.simulated_nodes else [])]
        needs += [] if inputs.has_namespace or Check.POD_SECURITY in errors else [Need.NEW_NAMESPACE]
        manifests = inputs.rendering.manifests if inputs.rendering else ()
        daemons = [one for one in manifests if inputs.has_namespace and text(one, "kind") == "DaemonSet"]
        refusals = pool.map(lambda daemon: _refusal(api, daemon, place), daemons)
        return replace(
            inputs,
            limit_ranges=ranges.result(),
            denied=attempt(Check.PERMISSIONS, partial(denied_permissions, cluster, needs, manifests)),
            admission={name_of(one): error for one, error in zip(daemons, refusals, strict=True) if error},
        )


def check_rollback(
    cluster: Cluster, manifests: Sequence[KubernetesObject], revision: int, now: Now
) -> tuple[Finding, ...]:
    """Return findings about a rollback's permissions and, if no permission is missing, about the revision."""
    api, place = cluster.api, cluster.namespace
    permissions = preflight.check_permissions(denied_permissions(cluster, [Need.CHANGE], manifests))
    if permissions.outcome is Outcome.FAILED:
        return (permissions,)
    new = chart.workloads_in(manifests)
    secret = secret_name(new)
    installed = chart.workloads_in(api.list(kinds.DAEMON_SET, place, labels=LABELS))
    anyway = f"helm rollback {RELEASE} {revision} --namespace={place}"
    nodes = read_nodes(api)
    pods = affected_pods(cluster, installed, new, nodes)
    return (
        permissions,
        *preflight.check_revision(new, nodes, installed, anyway),
        *preflight.check_root(read_root(cluster, secret, now) if secret else None, makes_root=False),
        *preflight.check_kept_epc(new, nodes, installed, pods),
        *preflight.check_quotes(new, nodes, installed, pods),
    )


def affected_pods(
    cluster: Cluster, installed: Sequence[Workload], new: Sequence[Workload], nodes: Nodes
) -> tuple[TenantPod, ...]:
    """Return tenants' Pods that use the add-on's resources. Read no Pods if the change removes no resource."""
    daemons = chart.daemons_in(new)
    before, after = ({(each.name, *map(each.flag, EPC_FLAGS)) for each in some} for some in (installed, daemons))
    most = max((node.epc_mib for node in nodes), default=0)
    less = before and (before != after or most > (chart.capacity_limit(new) or most))
    left = {node.name for node in nodes if node.capacity} - {node.name for node in chart.selected(daemons, nodes)}
    if not (less or left or preflight.losing_nodes(new, nodes, installed)):
        return ()
    return tenants(cluster.api.list(kinds.POD), cluster.namespace)


def denied_permissions(
    cluster: Cluster, needs: Iterable[Need], manifests: Iterable[KubernetesObject]
) -> tuple[Permission, ...]:
    """Return the permissions that this user lacks for a command on the objects in `manifests`."""
    kinds = {(text(one, "kind"), text(one, "apiVersion").rpartition("/")[0]) for one in manifests}
    resources = [(plural(kind), group, kind not in CLUSTER_WIDE) for kind, group in kinds] or _USUAL
    return denied(cluster.api, preflight.permissions_needed(needs, resources, cluster.namespace))


def denied(api: Api, permissions: Iterable[Permission]) -> tuple[Permission, ...]:
    asked = tuple(permissions)
    answers = at_once(lambda one: api.is_allowed(one.attributes), asked)
    return tuple(one for one, allowed in zip(asked, answers, strict=True) if not allowed)


def _limit_ranges(api: Api) -> tuple[str, ...]:
    """Return the LimitRanges that require requests for Intel's EPC resource; empty if they cannot be read."""
    with contextlib.suppress(ConfcomError):
        ranges = [one for one in api.list(kinds.LIMIT_RANGE) if requires(one, INTEL_EPC)]
        return tuple(f"{name_of(one)} in {namespace_of(one)}" for one in ranges)
    return ()


def _refusal(api: Api, daemon: KubernetesObject, namespace: str) -> ConfcomError | None:
    """Create the DaemonSet's Pod in a dry run and return the error; None if the API server admits the Pod."""
    template = mapping(daemon, "spec", "template")
    metadata = {**mapping(template, "metadata"), "name": f"{name_of(daemon)}-preflight", "namespace": namespace}
    # Use the namespace's default ServiceAccount: the Pod's own account may not exist yet.
    spec = {**mapping(template, "spec"), "serviceAccountName": "default"}
    try:
        api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, dry_run=True)
    except ConfcomError as error:
        return error
    return None


def _with_release(inputs: PreflightInputs, helm: Helm, folder: Path) -> PreflightInputs:
    history = helm.history()
    installed = helm.manifests() if history else ()
    values = replace(inputs.values, stored=helm.values() if history else {})
    rendering = helm.render(folder, values)
    decided = mapping(rendering.config, "admission").get("mutate")
    if not decided and any(node.has_intel_epc for node in inputs.nodes or ()):  # another plugin's
        values = replace(values, settings=(*values.settings, f"{preflight.MUTATE}=off"))
        rendering = helm.render(folder, values)
    inputs = replace(inputs, history=history, values=values, installed=installed, rendering=rendering)
    kept = {(text(one, "kind"), name_of(one)) for one in (*rendering.manifests, *installed)}
    with contextlib.suppress(ConfcomError):  # objects that this user may not list are kept
        found = filter(is_helms, owned_objects(helm.cluster))
        return replace(inputs, unrecorded=tuple(one for one in found if (one["kind"], name_of(one)) not in kept))
    return inputs


def _with_nodes(inputs: PreflightInputs, nodes: Nodes, chosen: tuple[str, ...]) -> PreflightInputs:
    known, label = {node.name: node for node in nodes}, {SIMULATED_LABEL: "true"}
    marked = [known[name] for name in dict.fromkeys(chosen) if name in known]
    known |= {node.name: replace(node, labels={**node.labels, **label}) for node in marked}
    return replace(
        inputs,
        nodes=tuple(known.values()),
        unknown_nodes=tuple(name for name in chosen if name not in known),
        unlabelled_nodes=tuple(node.name for node in marked if not label.items() <= node.labels.items()),
    )
