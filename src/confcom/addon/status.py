"""Compute the add-on's status from a snapshot: a row for each node, the problems, and the notes. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from confcom.addon import chart_objects as chart
from confcom.addon.daemon_pods import FAILED_CREATE, GONE, DaemonPod, PodState
from confcom.addon.drift import Effect, deletion
from confcom.addon.epc import NodeEpc, epc_problems, unmet_requests
from confcom.addon.problems import Problem, ProblemGroup, grouped, shown
from confcom.addon.simulated_root import root_faults
from confcom.addon.snapshot import Snapshot
from confcom.addon.tenants import TenantWorkload, used_by_node, workloads
from confcom.kubernetes.names import REAL, VERSION_LABEL, Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.node_selection import SgxKind, sgx_kind
from confcom.kubernetes.workload import Workload
from confcom.simulation.collateral_staging import Staging

_WITHOUT = {
    Component.CONTROLLER: "until it runs, new or zeroed nodes get no EPC as capacity; all others keep theirs",
    Component.SIMULATED_PCS: "until it runs, it serves no collateral; quotes are made as before",
}
"""Keyed by a Deployment's component: the effect on users while the Deployment has no ready Pod."""


@dataclass(frozen=True, slots=True)
class Step:
    """The rollout of a daemon's newest Pod template on one node."""

    node: str
    kind: str
    done: bool
    text: str
    failing: bool = False
    """Whether the daemon's Pod is unlikely to recover unless somebody intervenes."""
    serving: bool = False
    updating: bool = False
    """Whether a Pod of an older template still has to be replaced."""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    name: str
    sgx: SgxKind
    ready: bool
    epc: NodeEpc
    plugins: tuple[DaemonPod, ...]
    helpers: tuple[DaemonPod, ...]
    problems: tuple[Problem, ...]
    steps: tuple[Step, ...]

    @property
    def healthy(self) -> bool:
        return self.ready and not self.problems

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "sgx": self.sgx,
            "ready": self.ready,
            "epc": self.epc.to_json(),
            "device_plugin": [pod.to_json() for pod in self.plugins],
            "quote_helper": [pod.to_json() for pod in self.helpers],
            "problems": [one.text for one in self.problems],
        }


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    component: Component
    waits_for: str = ""
    """The reason why the newest template is not rolled out yet; empty if the rollout is complete."""
    updating: bool = False
    """Whether a Pod of an older template still has to be replaced."""
    failing: bool = False
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class AddOnStatus:
    namespace: str
    enabled: bool
    simulated: bool
    staging: Staging
    """A platform status for rehearsals: the simulated platform's collateral shows this status."""
    version: str
    nodes: tuple[NodeStatus, ...]
    """The nodes that have SGX, our daemons, or our resources."""
    other_nodes: int
    workloads: tuple[TenantWorkload, ...]
    problems: tuple[Problem, ...]
    not_compared: tuple[Problem, ...]
    notes: tuple[Problem, ...]
    """Facts that users must know, but that are not problems."""
    observed: bool
    """Whether the DaemonSet controller has observed the newest templates."""
    deployments: tuple[DeploymentStatus, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for node in self.nodes for step in node.steps)

    @property
    def updating(self) -> bool:
        """Whether a Ready node or a Deployment does not have its newest template yet."""
        of_nodes = any(step.updating for node in self.nodes if node.ready for step in node.steps)
        return not self.observed or of_nodes or any(one.updating for one in self.deployments)

    @property
    def ok(self) -> bool:
        return self.enabled and not self.problems and not self.updating

    @property
    def problem_groups(self) -> tuple[ProblemGroup, ...]:
        """Groups of similar problems. Problems that a node has because it is not Ready are left out."""
        consequences = {one for node in self.nodes if not node.ready for one in node.problems[1:]}
        pods = {pod.name for node in self.nodes for pod in (*node.plugins, *node.helpers)}
        names = pods | {node.name for node in self.nodes}
        return grouped((one for one in self.problems if one not in consequences), names)

    def to_json(self) -> dict[str, object]:
        return {
            "enabled": self.enabled,
            "ok": self.ok,
            "namespace": self.namespace,
            "version": self.version,
            "simulated": self.simulated,
            "staging": self.staging,
            "notes": [{"code": one.code, "note": one.text} for one in self.notes],
            "update_in_progress": self.updating,
            "nodes": [node.to_json() for node in self.nodes],
            "nodes_without_sgx": self.other_nodes,
            "workloads": [workload.to_json() for workload in self.workloads],
            "problems": list(map(str, self.problems)),
            "problem_details": [one.to_json() for one in self.problems],
            "problem_groups": [group.to_json() for group in self.problem_groups],
            "drift": [one.to_json() for one in self.problems if one.code in {"object-missing", "object-changed"}],
            "not_compared": list(map(str, self.not_compared)),
        }


def add_on_status(snapshot: Snapshot) -> AddOnStatus:
    daemons, pods_on = snapshot.daemon_sets, defaultdict[str, list[DaemonPod]](list)
    for pod in snapshot.pods:
        pods_on[pod.node].append(pod)
    used = None if snapshot.epc_pods is None else used_by_node(snapshot.epc_pods)
    nodes = [_node_status(snapshot, node, pods_on[node.name], used) for node in snapshot.nodes]
    listed = tuple(
        status
        for status, node in zip(nodes, snapshot.nodes, strict=True)
        if status.sgx is not SgxKind.NONE
        or status.plugins
        or status.helpers
        or any(node.allocatable.values())
        or (node.capacity and not daemons)
        or any(one.code == "node-not-selected" for one in status.problems)
    )
    deployments = tuple(_deployment(snapshot, one) for one in _WITHOUT)
    problems = [*_release_problems(snapshot), *_left_problems(snapshot)]
    problems += [*_drift_problems(snapshot), *_cluster_problems(snapshot)]
    problems += [one.problem for one in deployments if one.problem]
    uncompared = (Problem(why, code="not-read") for why in snapshot.drift.not_compared)
    return AddOnStatus(
        namespace=snapshot.namespace,
        enabled=bool(daemons) or any(last.is_deployed for last in snapshot.history[-1:]),
        simulated=any(daemon.simulates for daemon in daemons),
        staging=chart.staging_of(daemons),
        version=", ".join(sorted({daemon.labels.get(VERSION_LABEL, "") for daemon in daemons})),
        nodes=listed,
        other_nodes=len(nodes) - len(listed),
        workloads=workloads(snapshot.epc_pods or (), snapshot.refused),
        problems=tuple(dict.fromkeys([*problems, *(one for node in listed for one in node.problems)])),
        not_compared=(*snapshot.not_read, *uncompared),
        notes=tuple(_notes(daemons, listed)),
        observed=all(daemon.observed for daemon in daemons),
        deployments=deployments,
    )


def _node_status(
    snapshot: Snapshot, node: Node, pods: Sequence[DaemonPod], used: Mapping[tuple[str, str], int] | None
) -> NodeStatus:
    name, resource = node.name, node.resources.epc
    epc = NodeEpc(
        resource,
        node.capacity.get(resource, 0),
        node.epc_mib,
        None if used is None else used.get((name, resource), 0),
        snapshot.inventories.get(name),
        chart.capacity_limit(snapshot.deployments.values()),
    )
    wanted = [daemon for daemon in snapshot.daemon_sets if daemon.selection.selects(node)]
    alive = {pod.component for pod in pods if pod.state not in GONE}
    kept_off = [each for each in wanted if each.selection.untolerated(node) and each.component not in alive]
    by_component = {one: tuple(pod for pod in pods if pod.component is one) for one in chart.NODE_DAEMONS}
    plugins, helpers = by_component[Component.DEVICE_PLUGIN], by_component[Component.QUOTE_HELPER]
    problems: list[Problem] = []
    if not node.ready:
        why = node.readiness or "the kubelet has never reported"
        problems.append(Problem(f"the node is not Ready: {why}", code="node-not-ready"))
    if kept_off:
        taints = dict.fromkeys(taint for each in kept_off for taint in each.selection.untolerated(node))
        options = chart.tolerating(wanted, taints)
        why = f"it is tainted {', '.join(taints)}, which the daemons do not tolerate: remove the taint, or keep it and"
        problems.append(Problem(f"{why} run `confcom update {options}`", code="node-tainted"))
    chosen, absent = ({daemon.component for daemon in some} for some in (wanted, kept_off))
    for component, found in by_component.items():
        if component not in absent and (found or component in chosen):
            problems += _daemon_problems(component, found, snapshot.templates)
    plugin_ready = any(pod.state is PodState.READY for pod in plugins)
    unmet = unmet_requests(node, used or {}, selected=bool(wanted))
    amounts = ", ".join(f"{count} {resource} of {offered}" for resource, (count, offered) in unmet.items())
    if unmet and not wanted and snapshot.daemon_sets:
        why = f"its Pods request {amounts} that are offered, and get no quotes: no DaemonSet of the add-on selects it"
        remedy = f"label it {' or '.join(chart.node_labels(snapshot.daemon_sets)) or 'again'}, or end these Pods"
        problems.append(Problem(f"{why}; {remedy}", code="node-not-selected"))
    else:
        problems += epc_problems(epc, plugin_ready=plugin_ready)
        if plugin_ready and unmet.keys() - {epc.resource}:
            why = f"its Pods request {amounts} that are offered: the kubelet reports every 10 seconds, else end them"
            problems.append(Problem(why, code="requests-not-offered"))
    steps = [_step(name, one, pods, snapshot.templates) for one in wanted if one not in kept_off]
    if not node.ready:
        away = "waiting: its node is not Ready"
        steps = [step if step.done else Step(name, step.kind, done=False, text=away) for step in steps]
    named = tuple(replace(one, node=name) for one in problems)
    plugin = next((daemon for daemon in wanted if daemon.component is Component.DEVICE_PLUGIN), None)
    served = SgxKind.SIMULATED if plugin and plugin.simulates else SgxKind.HARDWARE
    kind = served if plugin else sgx_kind(node)
    return NodeStatus(name, kind, node.ready, epc, plugins, helpers, named, tuple(steps))


def _daemon_problems(
    component: Component, pods: Sequence[DaemonPod], templates: Mapping[str, str]
) -> Iterator[Problem]:
    alive = [pod for pod in pods if pod.state not in GONE]
    newest = pods[-1] if pods else None
    if not alive:
        why = f": {newest.described}" if newest and newest.state is PodState.REJECTED else ""
        yield Problem(f"no {component.words}{why}", code="daemon-missing")
    elif newest and newest.state is PodState.REJECTED and newest.revision != alive[-1].revision:
        # A rejected Pod counts only if it has the newest template; other rejected Pods have been replaced.
        alive += [newest] if newest.revision == templates.get(newest.owner) else []
    rest = "; another one serves meanwhile" if any(pod.state is PodState.READY for pod in pods) else ""
    for pod in alive:
        if pod.state is not PodState.READY:
            why = f"the {component.words} {pod.described}{rest}"
            yield Problem(why, code="daemon-not-ready", reason_code=pod.reason_code)


def _step(node: str, daemon: Workload, pods: Sequence[DaemonPod], templates: Mapping[str, str]) -> Step:
    """Return the step of a daemon on a node. A rejected Pod's reason is shown only if there is no new Pod."""
    own = [pod for pod in pods if pod.owner == daemon.name]
    admitted = [pod for pod in own if pod.state is not PodState.REJECTED]
    newest = templates.get(daemon.name, "")
    new = [pod for pod in admitted if pod.revision == newest and pod.state is not PodState.ENDING]
    old = [pod for pod in admitted if pod not in new]
    ready = any(pod.state is PodState.READY for pod in new)
    rejected = [pod for pod in own if pod.state is PodState.REJECTED and (not old or pod.revision == newest)]
    state = "no Pod yet" if not old else "waiting for its turn; the old one serves"
    if not daemon.observed:
        state = "waiting for the DaemonSet controller"
    elif ready:
        state = f"ready ({new[-1].version})" + ("; the old one is terminating" if old else "")
    elif last := (new or rejected)[-1:]:
        state = f"{last[0].state}: {last[0].reason}"
    return Step(
        node,
        daemon.component.words if daemon.component else "",
        done=daemon.observed and ready and not old,
        text=state,
        failing=any(pod.state is PodState.FAILING for pod in new),
        serving=any(pod.state is PodState.READY for pod in old),
        updating=any(pod.state is not PodState.ENDING for pod in old),
        pod=new[-1].name if new else "",
    )


def _release_problems(snapshot: Snapshot) -> Iterator[Problem]:
    last = snapshot.history[-1] if snapshot.history else None
    if last is None or last.is_deployed or last.status == "uninstalled":
        return
    if last.is_unfinished:
        why = f"a change of the release is running, or was interrupted: {last.described}: if none is running, "
    else:
        why = f"the last change of the release was not completed: {last.described} ({last.description}): "
    removal = "`confcom disable` completes the removal" if last.status == "uninstalling" else ""
    undo = ", `confcom rollback` undoes it" if len(snapshot.history) > 1 else ", `confcom disable` removes it"
    yield Problem(why + (removal or f"`confcom enable` repeats it{undo}"), code="change-unfinished")


def _left_problems(snapshot: Snapshot) -> Iterator[Problem]:
    if not snapshot.left:
        return
    names = shown(snapshot.left)
    if snapshot.history:
        why = f"helm has no record of these add-on objects: {names}; delete unneeded ones (kubectl delete)"
        yield Problem(why, code="object-left")
    else:
        why = f"helm has no record of the release, and the cluster has its objects: {names}"
        again = "`confcom enable` with all values that were set installs it again" if snapshot.daemon_sets else ""
        yield Problem(f"{why}: {again}{', ' * bool(again)}`confcom disable` removes them", code="release-missing")


def _drift_problems(snapshot: Snapshot) -> Iterator[Problem]:
    for change in snapshot.drift.changes:
        name, fields = f"{change.kind} {change.name}", change.shown_fields
        if change.effect is Effect.MADE:
            yield Problem(f"the {name} is missing: `confcom enable` makes it", code="object-missing")
        elif change.effect is Effect.RECREATED:
            command = deletion([change], snapshot.namespace)
            remedy = f"run `{command}`, then `confcom enable`" if command else "`confcom enable` deletes and creates it"
            yield Problem(f"no apply can mend the {name} ({fields}): {remedy}", code="object-changed")
        elif change.meaning or change.effect is Effect.REPLACED:
            why = f"the {name} {change.meaning or 'differs'} ({fields})"
            yield Problem(f"{why}: `confcom enable` restores it", code="object-changed")
        else:
            yield Problem(f"{change}, by an apply of the release: `confcom enable` does that", code="object-changed")
    for name, added in snapshot.drift.added:
        why = f"somebody added to the {name}, whose Pods are privileged: {', '.join(added)}"
        yield Problem(f"{why}: remove them, or delete the object and run `confcom enable`", code="object-changed")


def _cluster_problems(snapshot: Snapshot) -> Iterator[Problem]:
    daemons = snapshot.daemon_sets
    if not daemons:
        if not any(one.is_deployed for one in snapshot.history[-1:]):
            why = f"the add-on is not enabled in the namespace {snapshot.namespace}: `confcom enable` installs it"
            yield Problem(why, code="not-enabled")
        elif not snapshot.drift.changes:
            yield Problem("the add-on's DaemonSets are missing: `confcom enable` makes them", code="object-missing")
        return
    if not chart.selected(daemons, snapshot.nodes):
        wanted = ", ".join(chart.node_labels(daemons))
        yield Problem(f"no node runs the daemons; they need nodes labelled {wanted}", code="no-nodes")
    for one in root_faults(snapshot.root) if snapshot.root else ():
        yield Problem(f"{one.what}: {one.remedy}", code=one.error_code)
    for daemon in daemons:
        if why := _creation_failure(daemon, snapshot):
            yield Problem(f"the DaemonSet {daemon.name} cannot create its Pods: {why}", code="pods-not-created")


def _creation_failure(daemon: Workload, snapshot: Snapshot) -> str:
    """Return why a DaemonSet cannot create its missing Pods; empty if it created a Pod after the warning."""
    warned = snapshot.warnings.get(daemon.name)
    if warned is None or warned.reason != FAILED_CREATE:
        return ""
    pods = [pod for pod in snapshot.pods if pod.owner == daemon.name]
    lacks = min(len(pods), daemon.current) < daemon.desired
    updating = daemon.updated < daemon.desired and warned.time >= max((pod.created for pod in pods), default="")
    return warned.text if lacks or updating else ""


def _deployment(snapshot: Snapshot, component: Component) -> DeploymentStatus:
    pods = [pod for pod in snapshot.pods if pod.component is component and pod.state not in GONE]
    newest, serves = pods[-1] if pods else None, any(pod.state is PodState.READY for pod in pods)
    waits_for, failing = "", newest is not None and newest.state is PodState.FAILING
    deployment, name = snapshot.deployments.get(component), f"confcom-{component}"
    if deployment and not deployment.rolled_out:
        unready = newest.described if newest and newest.state is not PodState.READY else ""
        waits_for = unready or "waiting for the Deployment controller"
    wanted = chart.has_controller(snapshot.daemon_sets) if component is Component.CONTROLLER else deployment
    problem = None
    if newest is None and wanted:
        refused = [one.text for warned, one in snapshot.warnings.items() if warned.startswith(f"{name}-")]
        why = "".join(f" ({one})" for one in refused[-1:])
        problem = Problem(f"there is no Pod of {name}{why}: {_WITHOUT[component]}", code="deployment-missing")
    elif newest and (failing or not serves):
        rest = "another one serves meanwhile" if serves else _WITHOUT[component]
        problem = Problem(f"{name} is not ready ({newest.described}): {rest}", code="deployment-not-ready")
    updating = deployment is not None and deployment.current != deployment.updated
    return DeploymentStatus(component, waits_for, updating, failing and bool(waits_for), problem)


def _notes(daemons: Sequence[Workload], nodes: Sequence[NodeStatus]) -> Iterator[Problem]:
    if (staging := chart.staging_of(daemons)) is not Staging.NONE:
        why = f"the simulated platform's collateral is staged (simulated.staging={staging}): verifiers may refuse its"
        end = "quotes, and no daemon is at fault; `confcom update --set simulated.staging=none` ends it"
        yield Problem(f"REHEARSAL: {why} {end}", code="collateral-staged")
    helpers = [each for each in daemons if each.component is Component.QUOTE_HELPER and not each.simulates]
    if any(helper.flag("--expected-root") for helper in helpers):
        why = "quotes of hardware nodes end in a root for tests (quoteHelper.expectedRoot), and are never genuine"
        yield Problem(f"TEST ROOT: {why}", code="test-root")
    if helpers:
        why = "quotes of hardware nodes were never run on SGX hardware: please send `confcom hardware-report`"
        yield Problem(why, code="never-run-on-sgx-hardware")
    old = [daemon for daemon in daemons if daemon.flag(chart.SUPPORT_FLAG) == "api-server"]
    for version in sorted({daemon.flag(chart.VERSION_FLAG) for daemon in old}):
        why = f"the add-on was installed for Kubernetes {version}, which cannot count sgx.intel.com/epc as {REAL.epc}"
        then = "nor EPC as capacity; after an upgrade to 1.36, run `confcom update`"
        yield Problem(f"{why}, {then}", code="api-server-old")
    plugins = {node.name: node.epc.plugin for node in nodes if node.epc.plugin}
    if kept := [name for name, plugin in plugins.items() if plugin.accounting.kept_mib]:
        first = plugins[kept[0]].accounting
        why = f"{first.kept_mib} MiB on {kept[0]} are more than the values allow, and Pods hold them"
        yield Problem(f"EPC is kept on {shown(kept)}: {why} ({first.reason})", code="epc-kept")
    if held := [name for name, plugin in plugins.items() if plugin.accounting.held_back_mib]:
        first, found = plugins[held[0]].accounting, plugins[held[0]].epc
        amounts = f"{first.held_back_mib} of {found.mib} MiB on {held[0]} ({first.reason})"
        page = "docs/how-to/change-accounting.md says how to count it as capacity"
        yield Problem(f"EPC is held back on {shown(held)}: {amounts}; {page}", code="epc-held-back")
