"""Preflight: checks for everything that could make a change fail. Pure: surroundings in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from confcom.addon.model.chart_objects import INSTANCE_LABEL, Plan, component_of, pod_spec_of
from confcom.addon.model.epc_accounting import PluginEpc
from confcom.addon.preflight.admission import ProbeAnswer
from confcom.addon.preflight.epc_names import check_epc_names
from confcom.addon.preflight.findings import Check, Finding, Outcome
from confcom.addon.preflight.hardware_quotes import DevicesSeen, check_epc_set_aside, check_provision_group
from confcom.addon.preflight.held_back import check_held_back
from confcom.addon.preflight.node_checks import check_nodes, check_simulation
from confcom.addon.preflight.other_device_plugins import check_owners
from confcom.addon.preflight.permissions import CLEANING, Permission, asking_helpers, probing
from confcom.addon.preflight.versions import check_helm, check_kubernetes
from confcom.errors import ConfcomError
from confcom.kubernetes.objects import KubernetesObject, labels_of, listing, namespace_of, number, text

ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"
PRIVILEGED = "privileged"
"""The only Pod Security level that allows the daemons host directories and the node's PID namespace."""
_PLUGIN_DIRECTORY = "device-plugins"
"""The name of the kubelet's directory for device plugins; `kubelet.rootDir` says where it is."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was read from helm and the cluster. A value that could not be read is the error, which becomes a finding."""

    namespace_name: str
    release: str
    helm: str | ConfcomError
    """Helm's version."""
    server: str | ConfcomError
    """The API server's version."""
    plan: Plan | ConfcomError | None = None
    """None if the chart was not rendered because helm or the API server is missing; so for the fields that follow."""
    denied: Sequence[Permission] | ConfcomError | None = None
    namespace: KubernetesObject | ConfcomError | None = None
    nodes: Sequence[KubernetesObject] | ConfcomError | None = None
    """The nodes with the labels that are to be added."""
    daemon_sets: Sequence[KubernetesObject] | ConfcomError | None = None
    """Of all namespaces."""
    answers: Mapping[str, ProbeAnswer] | None = None
    """By the DaemonSet's name: admission's answer to a pod of it; absent where no answer is needed."""
    devices: DevicesSeen | None = None
    """The provision devices of nodes with SGX hardware; None if nothing needs them, or no device plugin runs yet."""
    epc: Mapping[str, PluginEpc] = field(default_factory=dict)
    """By node, what the running device plugins of nodes with SGX hardware told."""
    unknown_nodes: Sequence[str] = ()
    """Nodes that are to be labelled and do not exist."""
    unlabelled_nodes: Sequence[str] = ()
    """Nodes that are to be labelled and lack the label."""
    allow_no_nodes: bool = False


def judge(seen: Surroundings) -> tuple[Finding, ...]:
    """Return all findings, at least one for each check, in the order of the checks."""
    found = [check_helm(seen.helm), check_kubernetes_reached(seen)]
    if not isinstance(seen.server, ConfcomError):
        found.append(check_kubernetes(seen.server))
    found += [_values(seen), _permissions(seen)]
    if isinstance(seen.daemon_sets, ConfcomError):
        found.append(Finding.of(Check.INSTALLATION, seen.daemon_sets))
    elif seen.daemon_sets is not None:
        found += _installations(seen, seen.daemon_sets)
    found += _pod_security(seen)
    if isinstance(seen.nodes, ConfcomError):
        found.append(Finding.of(Check.NODES, seen.nodes))
    elif seen.nodes is not None and isinstance(seen.plan, Plan):
        theirs = seen.daemon_sets if isinstance(seen.daemon_sets, Sequence) else ()
        ours = [one for one in theirs if _is_this(seen, one)]
        found += check_owners(seen.plan, seen.nodes, [one for one in theirs if one not in ours], installed=bool(ours))
        kubernetes = "" if isinstance(seen.server, ConfcomError) else seen.server
        found += check_epc_names(seen.plan, seen.nodes, kubernetes)
        found += check_simulation(seen.plan, seen.nodes, ours)
        found += check_epc_set_aside(seen.plan, seen.nodes, ours)
        found += check_held_back(seen.plan, seen.nodes, seen.epc)
        found += check_provision_group(seen.plan, seen.devices)
        found += check_nodes(seen.plan, seen.nodes, ours, unknown=seen.unknown_nodes, allow_none=seen.allow_no_nodes)
    done = {one.check for one in found}
    found += [
        Finding(check, Outcome.SKIPPED, "skipped: an earlier check failed", code="not-checked")
        for check in Check
        if check not in done
    ]
    order = list(Check)
    return tuple(sorted(found, key=lambda one: order.index(one.check)))


def check_kubernetes_reached(seen: Surroundings) -> Finding:
    """Check whether the API server answers."""
    if isinstance(seen.server, ConfcomError):
        return Finding.of(Check.API_SERVER, seen.server)
    return Finding.ok(Check.API_SERVER, "reachable", code="api-server-answers")


def _values(seen: Surroundings) -> Finding:
    if isinstance(seen.plan, ConfcomError):
        return Finding.of(Check.VALUES, seen.plan)
    if seen.plan is None:
        return Finding(Check.VALUES, Outcome.SKIPPED, "the chart was not rendered", code="chart-not-rendered")
    return Finding.ok(Check.VALUES, f"{len(seen.plan.manifests)} objects", code="values-accepted")


def _permissions(seen: Surroundings) -> Finding:
    if isinstance(seen.denied, ConfcomError):
        return Finding.of(Check.PERMISSIONS, seen.denied)
    if seen.denied is None:
        return Finding(
            Check.PERMISSIONS, Outcome.SKIPPED, "the permissions were not checked", code="permissions-not-checked"
        )
    asking = asking_helpers(seen.namespace_name)
    needless = (CLEANING, asking, probing(seen.namespace_name))
    missing = [one for one in seen.denied if one not in needless]
    if missing:
        return permissions_missing(missing)
    if CLEANING in seen.denied:
        return Finding.warning(
            Check.PERMISSIONS,
            "this user cannot disable the add-on completely",
            why=f"not allowed: {CLEANING}, which removes the resources' names from the nodes",
            remedy="a user with this permission has to run `confcom disable`",
            code="cleaning-not-permitted",
        )
    if asking in seen.denied:
        return Finding.warning(
            Check.PERMISSIONS,
            "this user cannot see which simulated root the quote helpers use",
            why=f"not allowed: {asking}, which reads the root from their metrics after it was replaced",
            remedy="if the root's Secret is deleted or changed, a user with this permission has to run `confcom "
            "status`",
            code="asking-helpers-not-permitted",
        )
    return Finding.ok(Check.PERMISSIONS, "this user has all required permissions", code="permissions-granted")


def permissions_missing(missing: Sequence[Permission]) -> Finding:
    """Return the finding that this user lacks these permissions."""
    return Finding.failed(
        Check.PERMISSIONS,
        "this user lacks permissions",
        why=f"not allowed: {'; '.join(map(str, missing))}",
        remedy="ask a cluster administrator to grant these permissions, or to run this command",
        code="permissions-missing",
    )


def _is_this(seen: Surroundings, daemon: KubernetesObject) -> bool:
    return (
        component_of(daemon) is not None
        and namespace_of(daemon) == seen.namespace_name
        and labels_of(daemon).get(INSTANCE_LABEL) == seen.release
    )


def _is_running_plugin(daemon: KubernetesObject) -> bool:
    """Return whether a DaemonSet runs what can register with kubelets; its labels alone say nothing."""
    volumes = listing(pod_spec_of(daemon), "volumes")
    mounts = any(text(one, "hostPath", "path").endswith(f"/{_PLUGIN_DIRECTORY}") for one in volumes)
    return mounts and number(daemon, "status", "currentNumberScheduled") > 0


def _installations(seen: Surroundings, daemon_sets: Sequence[KubernetesObject]) -> Iterator[Finding]:
    other = [one for one in daemon_sets if component_of(one) is not None and not _is_this(seen, one)]
    running = {namespace_of(one) for one in other if _is_running_plugin(one)}
    for namespace in sorted({namespace_of(one) for one in other}):
        release = next(labels_of(one).get(INSTANCE_LABEL, "") for one in other if namespace_of(one) == namespace)
        if namespace not in running:
            yield Finding.warning(
                Check.INSTALLATION,
                f"DaemonSets in the namespace {namespace} have the labels of the add-on, and none runs a device plugin",
                why="they are another installation without nodes, or something else: anyone may write these labels",
                remedy=f"find out whose they are: kubectl get daemonsets --namespace {namespace} --show-labels",
                code="labels-of-the-add-on",
            )
            continue
        yield Finding.failed(
            Check.INSTALLATION,
            f"the namespace {namespace} already contains the add-on, as the release {release}",
            why="two installations would offer the same EPC twice, and removing either would take it from the nodes",
            remedy=f"use that installation (--namespace {namespace}), or remove it first: "
            f"helm uninstall {release} --namespace {namespace}",
            code="installed-elsewhere",
        )
    if not running:
        there = any(_is_this(seen, one) for one in daemon_sets)
        if there:
            yield Finding.ok(Check.INSTALLATION, "the add-on is already installed", code="installed")
        else:
            yield Finding.ok(Check.INSTALLATION, "the add-on is not installed yet", code="not-installed")


def _pod_security(seen: Surroundings) -> Iterator[Finding]:
    if isinstance(seen.namespace, ConfcomError):
        yield Finding.of(Check.POD_SECURITY, seen.namespace)
        return
    if seen.answers is None:
        return
    name = seen.namespace_name
    if seen.namespace is None:
        yield Finding.ok(
            Check.POD_SECURITY,
            f"the namespace {name} will be created with the level {PRIVILEGED}",
            code="namespace-will-be-created",
        )
        return
    level = labels_of(seen.namespace).get(ENFORCE_LABEL, PRIVILEGED)
    if level != PRIVILEGED:
        yield Finding.failed(
            Check.POD_SECURITY,
            f"the namespace {name} enforces the Pod Security level {level}",
            why="the daemons need host directories, and the quote helper the node's process IDs: only the level "
            f"{PRIVILEGED} allows that",
            remedy=f"kubectl label namespace {name} {ENFORCE_LABEL}={PRIVILEGED} --overwrite; or name another one "
            "with --namespace",
            code="pod-security-too-strict",
        )
    else:
        yield from _answered(seen.answers, name)


def _answered(answers: Mapping[str, ProbeAnswer], name: str) -> Iterator[Finding]:
    for daemon, answer in answers.items():
        if answer.invalid:
            yield Finding.failed(
                Check.VALUES,
                f"the API server rejects the Pods of {daemon} as invalid",
                why=answer.refusal,
                remedy="correct the values that the API server names, such as a request above its limit",
                code="pods-invalid",
            )
        elif answer.refusal:
            yield Finding.failed(
                Check.POD_SECURITY,
                f"the API server refuses the Pods of {daemon} in the namespace {name}",
                why=answer.refusal,
                remedy="let the policy that refuses them allow this namespace; if it is Pod Security: "
                f"kubectl label namespace {name} {ENFORCE_LABEL}={PRIVILEGED} --overwrite",
                code="pods-refused",
            )
    doubts = list(dict.fromkeys(answer.doubt for answer in answers.values() if answer.doubt))
    if doubts:
        yield Finding.warning(
            Check.POD_SECURITY,
            f"the check could not determine whether the namespace {name} admits the daemons' Pods",
            why="; ".join(doubts),
            remedy="if it does not, `confcom enable` and `confcom status` show what refuses them",
            code="admission-unknown",
        )
    if not any(answer.refusal or answer.doubt for answer in answers.values()):
        yield Finding.ok(Check.POD_SECURITY, f"the namespace {name} admits the daemons' Pods", code="pods-accepted")
