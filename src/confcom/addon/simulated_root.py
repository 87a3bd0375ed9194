"""The Secret with a cluster's simulated root. No helm release owns this Secret; only the user deletes it."""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from confcom.addon.api import DAEMON_SET, DEPLOYMENT, SECRET, ClusterAccessError, ForbiddenError
from confcom.addon.login import Cluster
from confcom.addon.problems import shown
from confcom.kubernetes.names import COMPONENT_LABEL, NAME_LABEL, RELEASE
from confcom.kubernetes.objects import KubernetesObject, mapping
from confcom.kubernetes.workload import Workload
from confcom.simulation.root_seed import RootSeed, RootSeedError

if TYPE_CHECKING:
    from confcom.simulation.platform import SimulatedPlatform

VOLUME = "simulated-root"
"""The volume with which a simulated quote helper's Pod mounts the Secret; also the Secret's component label."""
DEFAULT_SECRET = "confcom-simulated-root"  # noqa: S105 # a name, not a secret
"""The chart's default of `simulated.secretName`."""
SERVED = "the collateral that is served"
"""The key of the simulated PCS in `RootFacts.roots`; the other keys are names of nodes."""
_ROOT_METRIC = re.compile(
    r'^confcom_(?:quote_helper_simulated|simulated_pcs)_root_info\{sha256="([0-9a-f]{64})"\} 1(?:\.0)?$', re.MULTILINE
)
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""The annotation that `kubectl rollout restart` sets in a Pod template, so that the Pods are replaced."""


@dataclass(frozen=True, slots=True)
class RootFacts:
    """The simulated roots in the Secret, in quote helpers and in the served collateral, as SHA-256 in hex."""

    secret: str
    namespace: str
    exists: bool | None = None
    """Whether the Secret exists; None if this user may not read the Secret."""
    root: str = ""
    """The Secret's root; empty if the Secret was not read or cannot be used."""
    unusable: str = ""
    """The reason why the Secret's root cannot be used now; empty if it can be used."""
    roots: Mapping[str, str] = field(default_factory=dict)
    """Keyed by node: the root of the node's quote helper. Keyed by SERVED: the simulated PCS's root."""
    unread: str = ""
    """A text with the names of the nodes whose quote helper did not report its root."""


def root_faults(facts: RootFacts) -> Iterator[RootSeedError]:
    """Compare the Secret's root with the roots in use, and yield an error for each fault."""
    secret, where = f"the Secret {facts.secret}", f"-n {facts.namespace}"
    new = "`confcom enable --new-root` makes another root, whose `confcom simulation export` relying parties need"
    if facts.exists is False:
        what = f"{secret}, the cluster's simulated root, is missing, and no quote helper can start"
        yield RootSeedError(what, error_code="simulated-root-missing", remedy=f"restore it, or {new}")
    if facts.unusable:
        what = f"{secret}, the cluster's simulated root, cannot be used: {facts.unusable}"
        delete = f"restore it from a copy, or delete it (`kubectl delete secret {where} {facts.secret}`): {new}"
        yield RootSeedError(what, error_code="simulated-root-unusable", remedy=delete)
    having = defaultdict[str, list[str]](list)
    for who, root in [*([(secret, facts.root)] if facts.root else []), *facts.roots.items()]:
        having[root].append(who)
    if len(having) > 1:
        found = "; ".join(f"{root[:16]}... of {shown(some)}" for root, some in having.items())
        what = f"the simulated roots differ: {secret} was changed (SHA-256 {found})"
        restart = f"`kubectl rollout restart daemonset,deployment {where}` gives all of them the Secret's"
        remedy = f"restore the Secret if that was a mistake; else {restart}, and `confcom enable --new-root` goes on"
        yield RootSeedError(what, error_code="simulated-roots-differ", remedy=remedy)


def secret_name(workloads: Iterable[Workload]) -> str:
    """Return the name of the simulated root's Secret that these workloads mount; empty if they mount none."""
    return next((workload.secrets[VOLUME] for workload in workloads if VOLUME in workload.secrets), "")


def root_of_metrics(metrics: str) -> str:
    found = _ROOT_METRIC.search(metrics)
    return found[1] if found else ""


def read_facts(cluster: Cluster, secret: str, now: datetime) -> RootFacts:
    """Read the Secret's root. The Secret's values stay in memory. `roots` of the result is empty."""
    facts = RootFacts(secret, cluster.namespace)
    try:
        found = cluster.api.get(SECRET, secret, cluster.namespace)
    except ForbiddenError:  # most users may not read Secrets
        return facts
    if found is None:
        return replace(facts, exists=False)
    try:
        platform = _platform(found)
    except RootSeedError as error:
        return replace(facts, exists=True, unusable=error.why)
    return replace(facts, exists=True, root=platform.root_fingerprint, unusable=platform.unusable(now))


def create_root(cluster: Cluster, root: RootSeed, name: str) -> bool:
    """Create the Secret; return whether it is new. It is mutable: kubelets cache deleted immutable Secrets.

    First restart workloads that mount the Secret: their new Pods wait for it, and cannot use an older root.
    """
    patch = {"spec": {"template": {"metadata": {"annotations": {_RESTARTED: f"new-root-{root.created}"}}}}}
    for kind in (DAEMON_SET, DEPLOYMENT):
        for workload in map(Workload.parse, cluster.api.list(kind, cluster.namespace, labels={NAME_LABEL: RELEASE})):
            if secret_name([workload]) == name:
                cluster.api.merge(kind, workload.name, patch, cluster.namespace)
    values = {key: base64.b64encode(value).decode() for key, value in root.encode().items()}
    labels = {NAME_LABEL: RELEASE, COMPONENT_LABEL: VOLUME}
    metadata = {"name": name, "namespace": cluster.namespace, "labels": labels}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": values}
    return cluster.api.create(secret)


def read_platform(cluster: Cluster, name: str) -> SimulatedPlatform:
    """Read a cluster's simulated root. The caller may write only the root's public export to files."""
    where = f"the namespace {cluster.namespace} of {cluster.context}"
    found = cluster.api.get(SECRET, name, cluster.namespace)
    if found is None:
        raise ClusterAccessError(
            f"{where} has no Secret {name}",
            error_code="simulated-root-missing",
            why="the add-on is not enabled there with --simulated",
            remedy="name the installation's namespace with --namespace (`helm list -A` shows it), and the cluster with "
            "--context",
        )
    return _platform(found)


def _platform(secret: KubernetesObject) -> SimulatedPlatform:
    from confcom.simulation.platform import SimulatedPlatform  # noqa: PLC0415 # hardware clusters do not need it

    values = {key: base64.b64decode(value) for key, value in mapping(secret, "data").items()}
    return SimulatedPlatform.of_root(RootSeed.decode(values))
