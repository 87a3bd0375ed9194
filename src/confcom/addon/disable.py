"""Disable the add-on: remove all its objects except those kept on purpose, such as the simulated root."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from confcom.addon import change
from confcom.addon.api import DAEMON_SET, NAMESPACE, NODE, POD, SECRET, ClusterAccessError, ForbiddenError, at_once
from confcom.addon.change import ChangeRefusedError
from confcom.addon.chart_objects import POLICY_KINDS, REMOVAL_ANNOTATION, workloads_in
from confcom.addon.command import AddOn, Mark, Row
from confcom.addon.daemon_pods import DaemonPod, daemon_pod
from confcom.addon.login import Cluster
from confcom.addon.node_keys import SETTLED_SECONDS, NodeKeys, clean_nodes, remove_keys
from confcom.addon.owned_objects import KINDS, delete_objects, is_helms, owned_objects
from confcom.addon.preflight import Need, check_permissions
from confcom.addon.preflight_inputs import denied_permissions
from confcom.addon.problems import shown
from confcom.addon.readiness import POLL_SECONDS, NotReadyError, retry_while_unreachable
from confcom.addon.simulated_root import DEFAULT_SECRET, secret_name
from confcom.addon.tenants import TenantPod, tenants
from confcom.kubernetes.names import NAME_LABEL, RELEASE, Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.node_selection import SIMULATED_LABEL
from confcom.kubernetes.objects import TERMINAL, KubernetesObject, text

POD_TERMINATION_SECONDS = 300.0
"""Time within which the daemons' Pods must end. Their grace period is at most 210 s, but a Pod ends later if its
kubelet restarts meanwhile."""
T = TypeVar("T")
Consent = Callable[[Sequence[TenantPod]], bool]


@dataclass(frozen=True, slots=True)
class Disabled:
    removed: bool
    """Whether any object was removed; resource names in the nodes' status do not count."""
    kept: tuple[str, ...]
    leftovers: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Pairs of a node's name and the add-on's resources that are still in the node's status."""

    def to_json(self) -> dict[str, object]:
        return {
            "removed": self.removed,
            "kept": list(self.kept),
            "leftovers": {node: list(names) for node, names in self.leftovers},
        }


def disable(add_on: AddOn, *, consent: Consent, wait: bool) -> Disabled:
    """Remove the policies, then the daemons, then the add-on's resources from the nodes' status.

    If there is no helm release, the add-on's objects are found by their labels. If `wait`, wait until the
    kubelets have forgotten the resources (five minutes). After NotReadyError, a new call removes the rest.
    """
    cluster, helm = add_on.cluster, add_on.helm
    with contextlib.ExitStack() as stack:
        stack.enter_context(change.reporting_interruption(helm))
        add_on.reporter.say("Checking the cluster ...")
        manifests = helm.manifests() if helm.history() else ()
        if not manifests:
            _refuse_foreign(cluster)
        kinds: list[KubernetesObject] = [{"apiVersion": version, "kind": kind} for version, kind in KINDS]
        if denied := denied_permissions(cluster, [Need.DISABLE], [*manifests, *kinds]):
            change.report_findings(add_on, [check_permissions(denied)])
        if _has_namespace(cluster):  # the namespace contains helm's record and the Lease
            stack.enter_context(change.hold_lease(add_on, "disable", remove=True))
        return _disable(add_on, consent=consent, wait=wait)


def _disable(add_on: AddOn, *, consent: Consent, wait: bool) -> Disabled:
    api, history = add_on.cluster.api, add_on.helm.history()
    change.refuse_running_helm(history, add_on.now())
    left = [*owned_objects(add_on.cluster)]
    manifests = add_on.helm.manifests() if history else left
    if history or left:
        pods = [one for one in tenants(api.list(POD), add_on.cluster.namespace) if one.phase not in TERMINAL]
        if pods and not consent(pods):
            raise ChangeRefusedError(
                "nothing was changed",
                error_code="no-consent",
                why=f"{len(pods)} Pods use the add-on's resources, and the removal was not confirmed",
                remedy="delete them first, or confirm with --yes",
            )
        _remove(add_on, left, recorded=bool(history))
    else:
        add_on.reporter.say("The add-on is not enabled.")
    plugins_ended = _wait_for_the_end(add_on)
    kept = _retried(add_on, lambda: _kept(add_on.cluster, secret_name(workloads_in(manifests)) or DEFAULT_SECRET))
    removed, keys = bool(history or left), tuple[NodeKeys, ...]()
    if wait:
        clean_nodes(add_on, plugins_ended, settled=SETTLED_SECONDS if removed else 0.0)
    else:
        _retried(add_on, lambda: remove_keys(api))
        keys = _retried(add_on, lambda: remove_keys(api))
    return Disabled(removed, kept, tuple((one.node, one.names) for one in keys if one.names))


def _refuse_foreign(cluster: Cluster) -> None:
    daemons = workloads_in(cluster.api.list(DAEMON_SET, labels={NAME_LABEL: RELEASE}))
    if namespaces := sorted({daemon.namespace for daemon in daemons} - {cluster.namespace}):
        raise ChangeRefusedError(
            f"the namespace {cluster.namespace} has no release {RELEASE} of helm",
            error_code="not-enabled",
            why=f"the add-on is in the namespace {', '.join(namespaces)}",
            remedy="name that namespace with --namespace",
        )


def _daemon_pods(cluster: Cluster) -> list[DaemonPod]:
    pods = cluster.api.list(POD, cluster.namespace, labels={NAME_LABEL: RELEASE})
    return [pod for pod in map(daemon_pod, pods) if pod.component]


def _remove(add_on: AddOn, objects: Sequence[KubernetesObject], *, recorded: bool) -> None:
    cluster, say = add_on.cluster, add_on.reporter.say
    _mark_removal(add_on)
    delete_objects(cluster, [one for one in objects if one["kind"] in POLICY_KINDS], say)
    if recorded:
        say("helm removes the daemons ...")
        add_on.helm.uninstall()
    ours = is_helms if recorded else None  # without helm's record, delete all objects
    _retried(add_on, lambda: delete_objects(cluster, tuple(filter(ours, owned_objects(cluster))), say))


def _mark_removal(add_on: AddOn) -> None:
    """Annotate the quote helpers' Pods: a helper reads this in a file at its end, and waits for no replacement."""
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    mark = {"metadata": {"annotations": {REMOVAL_ANNOTATION: str(int(add_on.now().timestamp()))}}}

    def attempt(pod: DaemonPod) -> None:
        with contextlib.suppress(ClusterAccessError):
            api.merge(POD, pod.name, mark, namespace)

    with contextlib.suppress(ClusterAccessError):
        pods = _daemon_pods(add_on.cluster)
        at_once(attempt, [pod for pod in pods if pod.component is Component.QUOTE_HELPER])


def _wait_for_the_end(add_on: AddOn) -> float:
    """Wait until all daemons have ended; return the time by `add_on.clock` when the last device plugin ended."""
    cluster, plugins_ended = add_on.cluster, add_on.clock()
    deadline = plugins_ended + POD_TERMINATION_SECONDS

    table = add_on.reporter.table("The daemons end")
    while pods := _retried(add_on, lambda: _daemon_pods(cluster)):
        names = [pod.name for pod in pods]
        if any(pod.component is Component.DEVICE_PLUGIN for pod in pods):
            plugins_ended = add_on.clock()
        note = f"waiting for the end of {shown(names)}"
        table.show([Row(name, "ends", Mark.WAITING) for name in names], note=note)
        if add_on.clock() > deadline:
            raise NotReadyError(
                f"{shown(names)} did not end within {POD_TERMINATION_SECONDS:.0f} s",
                error_code="pods-not-terminated",
                why="their kubelet does not respond, a finalizer blocks their deletion, or nothing owns them any more",
                remedy="see kubectl describe pod, and delete Pods without an owner by kubectl delete pod; run "
                "`confcom disable` again when they are gone",
            )
        add_on.sleep(POLL_SECONDS)
    return plugins_ended


def _kept(cluster: Cluster, secret: str) -> tuple[str, ...]:
    api, here, kept = cluster.api, cluster.namespace, list[str]()
    if api.get(SECRET, secret, here) is not None:
        kept.append(
            f"the Secret {here}/{secret}, the cluster's simulated root: if the add-on is enabled again, it is the same "
            f"platform to relying parties (to delete it: kubectl delete secret -n {here} {secret})"
        )
    if _has_namespace(cluster):
        kept.append(f"the namespace {here} (if it is no longer needed: kubectl delete namespace {here})")
    if nodes := [node.name for node in map(Node.parse, api.list(NODE)) if SIMULATED_LABEL in node.labels]:
        kept.append(f"the label {SIMULATED_LABEL} on {shown(nodes)} (kubectl label node NODE {SIMULATED_LABEL}-)")
    return tuple(kept)


def _retried(add_on: AddOn, ask: Callable[[], T]) -> T:
    """Query the cluster; retry while its API server is away, as an error would stop the removal half-way."""
    say = add_on.reporter.say
    return retry_while_unreachable(
        add_on, ask, lambda rows: say(f"Waiting for the API server: {rows[0].text}"), timeout=POD_TERMINATION_SECONDS
    )


def _has_namespace(cluster: Cluster) -> bool:
    """Return whether the namespace exists and is not being deleted; True if this user may not read it."""
    try:
        found = cluster.api.get(NAMESPACE, cluster.namespace)
        return found is not None and text(found, "status", "phase") != "Terminating"
    except ForbiddenError:
        return True
