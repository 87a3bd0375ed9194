"""Checks before a change of the add-on: they find everything that could make the change fail. No I/O."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from confcom.addon import chart_objects as chart
from confcom.addon.epc import unmet_requests
from confcom.addon.helm import Rendering, Revision, Values
from confcom.addon.problems import shown
from confcom.addon.simulated_root import RootFacts, root_faults
from confcom.addon.tenants import TenantPod, used_by_node
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.epc_accounting import AccountingKind as Kind
from confcom.kubernetes.epc_accounting import OfferedEpc, changed_epc
from confcom.kubernetes.names import INSTANCE_LABEL, INTEL_EPC, OURS, REAL, RELEASE, SETS, Component
from confcom.kubernetes.node import Node
from confcom.kubernetes.node_selection import NFD_LABEL, SIMULATED_LABEL, SgxKind, sgx_kind
from confcom.kubernetes.objects import TERMINAL, KubernetesObject, name_of
from confcom.kubernetes.workload import Workload

Nodes = Sequence[Node]
Workloads = Sequence[Workload]

OLDEST_HELM = (4, 0)
OLDEST_KUBERNETES = (1, 30)
ENFORCE_LABEL, PRIVILEGED = "pod-security.kubernetes.io/enforce", "privileged"
"""The Pod Security level's label, and the only level that allows host directories and host process IDs."""
MUTATE = "admission.mutate"
_OTHER_PLUGINS = re.compile(r"(sgx-device-plugin|sgx-plugin|sgx_device_plugin)[^/]*$")
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})")


class Check(StrEnum):
    """The checks, in the order in which they are reported."""

    HELM = "helm"
    KUBERNETES = "Kubernetes version"
    NODES = "SGX nodes"
    VALUES = "chart and values"
    PERMISSIONS = "permissions"
    POD_SECURITY = "Pod Security"
    OWNERS = "resource names"
    SIMULATION = "simulation"


class Outcome(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"
    SKIPPED = "skipped"


FAILED, WARNING = Outcome.FAILED, Outcome.WARNING


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check. Like an error, a finding says what is wrong, why, and what to do; it has a code."""

    check: Check
    outcome: Outcome
    code: str
    what: str
    why: str = ""
    remedy: str = ""
    exit_code: ExitCode = ExitCode.REFUSED

    @classmethod
    def of(cls, check: Check, error: ConfcomError) -> Self:
        return cls(check, FAILED, error.error_code, error.what, error.why, error.remedy, error.exit_code)

    def to_json(self) -> dict[str, str]:
        words = {"code": self.code, "what": self.what, "why": self.why, "do": self.remedy}
        return {"check": self.check, "outcome": self.outcome.lower(), **words}


class PreflightError(ConfcomError):
    """A check failed before the change, so nothing was changed; the findings are already reported."""

    error_code = "preflight-failed"

    def __init__(self, findings: Sequence[Finding]) -> None:
        failures = [finding for finding in findings if finding.outcome is FAILED]
        names = ", ".join(dict.fromkeys(str(finding.check) for finding in failures))
        super().__init__("nothing was changed", why=f"these checks failed: {names}", remedy="see above, then try again")
        self.findings = tuple(findings)
        self.exit_code = failures[0].exit_code

    @property
    def details(self) -> dict[str, object]:
        return {"findings": [finding.to_json() for finding in self.findings]}


@dataclass(frozen=True, slots=True)
class Permission:
    """Permission for one verb on one resource; if `namespace` is empty, in the whole cluster."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}{where}"

    @property
    def attributes(self) -> dict[str, str]:
        """This permission as resourceAttributes of a SelfSubjectAccessReview."""
        resource, _, subresource = self.resource.partition("/")
        found = {"verb": self.verb, "resource": resource, "group": self.group, "namespace": self.namespace}
        return {key: value for key, value in (found | {"subresource": subresource}).items() if value}


class Need(StrEnum):
    ALWAYS = "enable, update, rollback, disable"
    CHANGE = "enable, update, rollback"
    DISABLE = "disable"
    NEW_NAMESPACE = "the namespace does not exist"
    NODE_LABELS = "--simulated-node"


MARKING = ("patch", "pods")
"""The permission (verb, resource) to annotate Pods. Without this permission, `disable` takes longer."""
_PERMISSIONS: tuple[tuple[Need, str, str, str, bool], ...] = (
    (Need.ALWAYS, "list", "nodes pods", "", False),
    (Need.ALWAYS, "list", "daemonsets", "apps", False),
    (Need.ALWAYS, "get list create update delete", "secrets", "", True),  # releases of helm, and the simulated root
    (Need.ALWAYS, "get create update delete", "leases", "coordination.k8s.io", True),
    (Need.CHANGE, "get", "namespaces", "", True),
    (Need.CHANGE, "list", "events", "", True),
    (Need.CHANGE, "list", "deployments controllerrevisions", "apps", True),
    (Need.CHANGE, "get create patch delete", "CHART", "", True),
    (Need.CHANGE, "update", "EXACT", "", True),
    (Need.DISABLE, "get list delete", "CHART", "", True),
    (Need.DISABLE, "patch", "nodes/status", "", False),
    (Need.DISABLE, *MARKING, "", True),
    (Need.NEW_NAMESPACE, "create", "namespaces", "", False),
    (Need.NODE_LABELS, "patch", "nodes", "", False),
)
"""Rows: the need, the verbs, the resources, their group, and whether the permission is needed in the namespace only.
CHART stands for the resources of all the chart's objects, and EXACT for those in EXACT_GROUPS."""


def permissions_needed(
    needs: Iterable[Need], resources: Iterable[tuple[str, str, bool]], namespace: str
) -> tuple[Permission, ...]:
    """Return the permissions that a command needs. `resources` has tuples: (plural, group, is namespaced)."""
    wanted, of_chart = {Need.ALWAYS, *needs}, sorted(set(resources))
    sets = {"CHART": of_chart, "EXACT": [one for one in of_chart if one[1] in chart.EXACT_GROUPS]}
    found: dict[Permission, None] = {}
    for need, verbs, names, group, namespaced in _PERMISSIONS:
        if need in wanted:
            listed = sets[names] if names in sets else [(name, group, namespaced) for name in names.split()]
            for name, its_group, inside in listed:
                for verb in verbs.split():
                    found[Permission(verb, name, its_group, namespace if inside else "")] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class PreflightInputs:
    """The checks' data, read from helm and the cluster. A field that could not be read is empty."""

    namespace: str
    values: Values
    helm_version: str = ""
    server_version: str = ""
    errors: Mapping[Check, ConfcomError] = field(default_factory=dict)
    """Keyed by check: the error that occurred when the check's inputs were read."""
    allow_no_nodes: bool = False
    history: tuple[Revision, ...] = ()
    installed: Sequence[KubernetesObject] = ()
    """`history` has the release's revisions, and `installed` has the release's objects."""
    unrecorded: Sequence[KubernetesObject] = ()
    """Objects that helm installed, but that are neither in helm's record nor in the new manifests."""
    rendering: Rendering | None = None
    denied: Sequence[Permission] | None = None
    has_namespace: bool = False
    daemon_sets: Workloads = ()
    nodes: Nodes | None = None
    """All DaemonSets in the cluster, and all nodes. The change's new labels are already in these nodes."""
    admission: Mapping[str, ConfcomError] = field(default_factory=dict)
    """Keyed by DaemonSet: the error (refusal or timeout) of a dry run that creates the DaemonSet's Pod."""
    limit_ranges: Sequence[str] = ()
    """LimitRanges that require requests for Intel's EPC resource."""
    unknown_nodes: tuple[str, ...] = ()
    unlabelled_nodes: tuple[str, ...] = ()
    pods: tuple[TenantPod, ...] = ()
    """Tenants' Pods that use the add-on's resources; empty if the change takes no resource from any Pod."""
    root: RootFacts | None = None
    """The simulated root; None if no quote helper will simulate SGX after the change."""
    makes_root: bool = False
    """Whether the change may give the quote helpers another simulated root."""


def run_checks(inputs: PreflightInputs) -> tuple[Finding, ...]:
    """Return all findings, at least one for each check, in the order of the checks."""
    nodes, rendering = inputs.nodes, inputs.rendering
    found = [*(Finding.of(check, error) for check, error in inputs.errors.items()), *check_versions(inputs)]
    if inputs.denied is not None:
        found.append(check_permissions(inputs.denied))
    if rendering is not None:
        found += [_ok(Check.VALUES, f"{len(rendering.manifests)} objects"), *_admission(inputs)]
    elif nodes is not None and all(sgx_kind(node) is SgxKind.NONE for node in nodes):
        found.append(_no_nodes(inputs, "none has a label of SGX hardware or of simulation"))
    if rendering is not None and nodes is not None:
        new = rendering.workloads
        daemons = chart.daemons_in(new)
        # Only this namespace counts: tenants may write the same labels in other namespaces.
        here = [each for each in chart.daemons_in(inputs.daemon_sets) if each.namespace == inputs.namespace]
        ours = [daemon for daemon in here if daemon.labels.get(INSTANCE_LABEL) == RELEASE]
        others = [daemon for daemon in inputs.daemon_sets if daemon not in ours]
        found += _owners(chart.selected(daemons, nodes), others, installed=bool(ours or inputs.installed))
        found += _epc_names(rendering.manifests, nodes, inputs.limit_ranges)
        found += _simulation(daemons, nodes, ours, "add --beside-hardware")
        found += check_root(inputs.root, makes_root=inputs.makes_root)
        found += _nodes(daemons, nodes, ours, inputs)
        found += check_kept_epc(new, nodes, ours, inputs.pods)
        found += check_quotes(new, nodes, ours, inputs.pods)
    skipped = set(Check) - {finding.check for finding in found}
    found += [Finding(check, Outcome.SKIPPED, "not-checked", "an earlier check failed") for check in skipped]
    return tuple(sorted(found, key=lambda finding: list(Check).index(finding.check)))


def check_revision(new: Workloads, nodes: Nodes, installed: Workloads, anyway: str) -> Iterator[Finding]:
    """Yield the faults of a revision on the present nodes, except faults that the installed revision has too.

    `anyway` is the helm command that rolls back without these checks.
    """
    daemons = chart.daemons_in(new)
    consent = "go back to another revision, or change the present one with `confcom enable --beside-hardware`"
    present = {finding.what for finding in _simulation(installed, nodes, installed, consent)}
    for finding in _simulation(daemons, nodes, installed, consent):
        if finding.outcome is FAILED and finding.what not in present:
            yield finding
    yield from _losses(daemons, nodes, installed, anyway)


def check_permissions(denied: Sequence[Permission]) -> Finding:
    if not denied:
        return _ok(Check.PERMISSIONS, "this user has all required permissions")
    what, why = "this user lacks permissions", f"not allowed: {'; '.join(map(str, denied))}"
    if all((one.verb, one.resource) == MARKING for one in denied):
        what, remedy = "the quote helpers end three minutes later than necessary", "wait, or ask for the permission"
        return Finding(Check.PERMISSIONS, WARNING, "removal-not-marked", what, why, remedy)
    remedy = "ask a cluster administrator to grant these (docs/how-to/let-people-look.md), or to run the command"
    return Finding(Check.PERMISSIONS, FAILED, "permissions-missing", what, why, remedy)


def _ok(check: Check, what: str) -> Finding:
    return Finding(check, Outcome.OK, "passed", what)


def _names(things: Iterable[Node]) -> list[str]:
    return [thing.name for thing in things]


def check_versions(inputs: PreflightInputs) -> Iterator[Finding]:
    for check, version, needed, why in (
        (Check.HELM, inputs.helm_version, OLDEST_HELM, "server-side apply needs helm 4"),
        (Check.KUBERNETES, inputs.server_version, OLDEST_KUBERNETES, "ValidatingAdmissionPolicy needs Kubernetes 1.30"),
    ):
        found = _VERSION.match(version)
        if version and (not found or (int(found[1]), int(found[2])) < needed):
            yield Finding(check, FAILED, "version-too-old", f"{version} is too old", why, "upgrade it")
        elif version:
            yield _ok(check, version)


def _admission(inputs: PreflightInputs) -> Iterator[Finding]:
    name = inputs.namespace
    for daemon, error in inputs.admission.items():
        check, outcome, code, remedy = Check.POD_SECURITY, FAILED, error.error_code, "change the policy that refuses it"
        if code == "object-invalid":
            check, remedy = Check.VALUES, "correct the values that the API server names"
        elif code != "object-refused":
            outcome, code, remedy = WARNING, "admission-unknown", "if it does not, `confcom status` shows the reason"
        elif "PodSecurity" in error.why:
            remedy = f"kubectl label namespace {name} {ENFORCE_LABEL}={PRIVILEGED} --overwrite"
        what = f"the namespace {name} may not admit the Pods of {daemon}"
        yield Finding(check, outcome, code, what, error.why or error.what, remedy)
    if not inputs.admission and Check.POD_SECURITY not in inputs.errors:
        how = f"will be created with the Pod Security level {PRIVILEGED}"
        how = "admits the daemons' Pods" if inputs.has_namespace else how
        yield _ok(Check.POD_SECURITY, f"the namespace {name} {how}")


def _owners(nodes: Nodes, others: Workloads, *, installed: bool) -> Iterator[Finding]:
    found = []
    for daemon in others:
        namespace, remedy = daemon.namespace, ""
        # Anyone may use our labels, but only a Pod that mounts this directory can register with a kubelet.
        if daemon.component and any(path.endswith("/device-plugins") for path in daemon.host_paths):
            remedy = f"use that installation (--namespace {namespace}), or remove it: confcom disable -n {namespace}"
        elif any(map(_OTHER_PLUGINS.search, daemon.images)):
            remedy = "keep it off these nodes, or remove it; on AKS: az aks disable-addons -a confcom"
        if remedy and (where := _names(chart.selected([daemon], nodes))):
            what = f"another SGX device plugin is for {shown(where)}: the DaemonSet {daemon.name} in {namespace}"
            why = "both would offer the same EPC, and Kubernetes would allocate it twice"
            found.append(Finding(Check.OWNERS, FAILED, "other-device-plugin", what, why, remedy))
    offers = {node.name: node.extended & OURS for node in nodes}
    if not installed and not found:
        # For five minutes after a plugin's end, its resources remain in capacity, but allocatable is 0.
        # EPC that our controller has written remains allocatable.
        for node in nodes:
            offers[node.name] |= {name for name, count in node.allocatable.items() if count} - node.written
    if offering := [node for node, names in offers.items() if names]:
        what = f"{shown(offering)} offers {', '.join(sorted(set().union(*offers.values())))} already"
        why = "another device plugin registered it, or Node Feature Discovery by extendedResources of a NodeFeatureRule"
        remedy = "find and remove that; after a removal wait 10 seconds, or restart the kubelet, which can miss it"
        found.append(Finding(Check.OWNERS, FAILED, "resource-offered-already", what, why, remedy))
    yield from found or [_ok(Check.OWNERS, "no other plugin offers them")]


def _epc_names(manifests: Iterable[KubernetesObject], nodes: Nodes, ranges: Sequence[str]) -> Iterator[Finding]:
    rewrites = chart.EPC_NAMES_POLICY in map(name_of, manifests)
    if others := [node.name for node in nodes if node.has_intel_epc]:
        fate, why = "left as they are", "such a Pod may be meant for these nodes, or for nodes of the add-on"
        remedy = f"request {REAL.epc} (in MiB) there; without another plugin:  --set {MUTATE}=auto"
        if rewrites:
            fate, remedy = f"changed to request {REAL.epc}", f"leave them as they are:  --set {MUTATE}=off"
        what = f"{shown(others)} offers {INTEL_EPC}, and Pods that request it are {fate}"
        yield Finding(Check.OWNERS, WARNING, "epc-names-of-others", what, why, remedy)
    if ranges and rewrites:
        what, why = f"every Pod is refused by the LimitRange {shown(ranges)}", f"it requires {INTEL_EPC}"
        remedy = f"remove that; a ResourceQuota of requests.{REAL.epc} limits EPC"
        yield Finding(Check.OWNERS, WARNING, "limit-range-of-old-name", what, why, remedy)


def _simulation(daemons: Workloads, nodes: Nodes, installed: Workloads, consent: str) -> Iterator[Finding]:
    """Yield the finding about simulated nodes beside hardware; `consent` says how to allow them."""
    simulated, real = (chart.plugins_in(daemons, simulated=which) for which in (True, False))
    if not simulated:
        yield _ok(Check.SIMULATION, "not wanted")
        return
    # A plugin that offers names of REAL is for hardware, unless our simulated DaemonSet selects its node.
    # EPC alone does not prove that a plugin runs: EPC that our controller wrote stays after the plugin's end.
    resources = [name for name in REAL if name != REAL.epc or not chart.has_controller(installed)]
    offering = [node for node in nodes if any(node.allocatable.get(name) for name in resources)]
    simulating = chart.selected([*simulated, *(each for each in installed if each.simulates)], offering)
    vendors = set(_names(offering)) - set(_names(simulating))
    hardware = [node for node in nodes if sgx_kind(node) is SgxKind.HARDWARE or node.name in vendors]
    both = sorted({*_names(chart.selected(simulated, [*hardware, *chart.selected(real, nodes)]))})
    if both:
        what = f"{shown(both)} is selected for simulation, and has SGX hardware or is selected for it"
        why = "the simulated device plugin does not start beside an SGX driver, and two would offer the same EPC"
        remedy = f"remove the label:  kubectl label node {both[0]} {SIMULATED_LABEL}-"
        yield Finding(Check.SIMULATION, FAILED, "node-chosen-twice", what, why, remedy)
    elif hardware and not real:
        what = f"this cluster has SGX hardware too: {shown(_names(hardware))}"
        why = "the scheduler could place a workload on a simulated node unnoticed"
        remedy = f"{consent}: simulated nodes then offer simulated.confcom.internal/... instead"
        yield Finding(Check.SIMULATION, FAILED, "hardware-in-cluster", what, why, remedy)
    else:
        yield _ok(Check.SIMULATION, "beside hardware" if hardware else "no node has SGX hardware")


def check_root(root: RootFacts | None, *, makes_root: bool) -> Iterator[Finding]:
    for one in root_faults(root) if root else ():
        if not makes_root or one.error_code == "simulated-root-unusable":
            yield Finding(Check.SIMULATION, FAILED, one.error_code, one.what, one.why, one.remedy)
    if root and root.unread:
        what, why = f"the simulated root is not compared with that of {root.unread}", "quote helpers do not report it"
        yield Finding(Check.SIMULATION, WARNING, "simulated-root-not-compared", what, why, "`confcom status` says more")


def losing_nodes(new: Workloads, nodes: Nodes, installed: Workloads) -> frozenset[str]:
    lost = set[str]()
    for component in chart.NODE_DAEMONS:
        daemons = map(chart.daemons_in, (installed, new))
        now, then = ([each for each in some if each.component is component] for some in daemons)
        lost |= set(_names(chart.selected(now, nodes))) - set(_names(chart.selected(then, nodes)))
    return frozenset(lost)


def check_quotes(new: Workloads, nodes: Nodes, installed: Workloads, pods: Sequence[TenantPod]) -> Iterator[Finding]:
    """Yield a finding about Pods that get no quotes after a change, including Pods that already get none."""
    kept, used = set(_names(chart.selected(chart.daemons_in(new), nodes))), used_by_node(pods)
    others = (node for node in nodes if node.name not in kept)
    lost = {node.name for node in others if unmet_requests(node, used, selected=False)}
    lost |= losing_nodes(new, nodes, installed)
    affected = (one for one in pods if one.node in lost and one.phase not in TERMINAL)
    if found := [f"{one.namespace}/{one.name} on {one.node}" for one in affected]:
        what, why = f"{len(found)} Pods lose their quotes: {shown(found)}", "their nodes would not have both daemons"
        remedy = "label these nodes again, or end these Pods first"
        yield Finding(Check.NODES, WARNING, "pods-lose-quotes", what, why, remedy)


def _losses(daemons: Workloads, nodes: Nodes, installed: Workloads, anyway: str) -> Iterator[Finding]:
    """Yield a finding if nodes that offer EPC would lose the daemons only because the nodes lack a label."""
    serving = [node for node in nodes if any(node.allocatable.get(names.epc) for names in SETS)]
    kept = set(_names(chart.selected(daemons, nodes)))
    for simulated in (False, True):
        labels = " ".join(chart.node_labels(chart.plugins_in(daemons, simulated=simulated)))
        now = _names(chart.selected(chart.plugins_in(installed, simulated=simulated), serving))
        lost = [name for name in now if name not in kept]
        if labels and lost:
            what = f"{shown(lost)} would lose the daemons, and the workloads there their EPC and quotes"
            remedy = f"label the nodes that should keep them: kubectl label node {lost[0]} {labels}; or {anyway}"
            yield Finding(Check.NODES, FAILED, "nodes-lose-daemons", what, f"not labelled {labels}", remedy)


def check_kept_epc(new: Workloads, nodes: Nodes, installed: Workloads, pods: Sequence[TenantPod]) -> Iterator[Finding]:
    kept, used, limit = {}, used_by_node(pods), chart.capacity_limit(new)
    daemons = map(chart.daemons_in, (installed, new))
    plugins = [[each for each in some if each.component is Component.DEVICE_PLUGIN] for some in daemons]
    for node in nodes:
        old, plugin = (next((each for each in some if each.selection.selects(node)), None) for some in plugins)
        epc, held = node.resources.epc, sum(used.get((node.name, names.epc), 0) for names in SETS)
        if old and plugin and held and (offered := node.capacity.get(epc, 0)):
            now = OfferedEpc(Kind.CAPACITY if epc in node.written else Kind.DEVICE, offered)
            if (mib := changed_epc(old.flag, plugin.flag, now=now, held=held, limit=limit)) is not None:
                kept[node.name] = (held, offered, mib)
    if kept:
        name, (held, before, after) = next(iter(kept.items()))
        what = f"{shown(list(kept))} keeps its EPC while Pods hold it: {name} has {before} MiB, and is to have {after}"
        why = f"its Pods request {held} MiB, and a kubelet that restarts fails Pods that no longer fit"
        remedy = "for the change, drain the node as docs/how-to/change-accounting.md says"
        yield Finding(Check.NODES, WARNING, "epc-kept", what, why, remedy)


def _nodes(daemons: Workloads, nodes: Nodes, installed: Workloads, inputs: PreflightInputs) -> Iterator[Finding]:
    chosen, served = chart.selected(daemons, nodes), _names(chart.selected(installed, nodes))
    labels = " ".join(chart.node_labels(daemons)) or "as the affinity in the values requires"
    if unknown := inputs.unknown_nodes:
        what = f"the cluster has no node {shown(unknown)}"
        yield Finding(Check.NODES, FAILED, "node-not-found", what, "", "kubectl get nodes shows their names")
    elif chosen:
        yield _ok(Check.NODES, shown(_names(chosen)))
    else:
        yield _no_nodes(inputs, f"none is labelled {labels}")
    taints = {node.name: {taint for each in daemons for taint in each.selection.untolerated(node)} for node in chosen}
    if tainted := {name: some for name, some in taints.items() if some}:
        # A node that runs daemons may be tainted for a drain, which must not block a change of other nodes.
        outcome, every = WARNING if tainted.keys() <= set(served) else FAILED, sorted(set().union(*tainted.values()))
        what = f"{shown(list(tainted))} is tainted {', '.join(every)}"
        why = "the daemons do not tolerate it: none starts there, and a change stops running ones"
        remedy = f"remove the taint; to keep it:  {chart.tolerating(daemons, every)}"
        yield Finding(Check.NODES, outcome, "node-tainted", what, why, remedy)


def _no_nodes(inputs: PreflightInputs, why: str) -> Finding:
    remedy = f"to simulate: --simulated-node NODE; with SGX hardware: kubectl label node NODE {NFD_LABEL}=true, "
    remedy += "or let Node Feature Discovery do it; for nodes that join later: --allow-no-nodes"
    outcome = WARNING if inputs.allow_no_nodes else FAILED
    return Finding(Check.NODES, outcome, "no-nodes", "no node has SGX", why, remedy)
