"""The SVNs of a cluster's nodes, from their quote helpers' page `/platform`."""

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from datetime import datetime

from confcom.addon.api import Api, ForbiddenError
from confcom.addon.chart_objects import selected, staging_of
from confcom.addon.daemon_pods import DaemonPod, PodState, one_line
from confcom.addon.login import Cluster
from confcom.addon.simulated_root import read_platform, secret_name
from confcom.addon.snapshot import Snapshot
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.names import Component
from confcom.kubernetes.workload import Workload
from confcom.sgx.pck.platform_page import PlatformPage, SgxKind
from confcom.tcb.judgement import Machine, Svns
from confcom.tcb.sets import SimulatedSets, Trust
from confcom.verify import TrustedRoot

PAGES_AT_ONCE = 20
"""Pages that are read at once: each takes a connection of the API server to a node."""


class PlatformUnknownError(ConfcomError):
    """A node's SVNs are not known, so nobody can say that the node is UpToDate."""

    error_code = "platform-unknown"
    exit_code = ExitCode.NOT_READY


def quote_helpers(found: Snapshot) -> tuple[Workload, ...]:
    if helpers := tuple(one for one in found.daemon_sets if one.component is Component.QUOTE_HELPER):
        return helpers
    what = f"the namespace {found.namespace} has no quote helpers"
    raise PlatformUnknownError(what, remedy="install the add-on by `confcom enable`, or pass quotes as arguments")


def release_trust(cluster: Cluster, helpers: Sequence[Workload], now: datetime) -> Trust:
    platform = read_platform(cluster, secret_name(helpers))
    return Trust(SimulatedSets(platform, staging_of(helpers), now), TrustedRoot.load(platform.pki.root.pem))


def read_machines(
    api: Api, found: Snapshot, helpers: Sequence[Workload], say: Callable[[str], None]
) -> tuple[Machine, ...]:
    """Return each node that a quote helper selects; `failure` says why its SVNs are unknown."""
    # Asked first, since a page can have the status 403 too.
    if not api.is_allowed({"verb": "get", "resource": "pods", "subresource": "proxy", "namespace": found.namespace}):
        why = f"not allowed: get pods/proxy in {found.namespace}"
        raise ForbiddenError("the quote helpers' pages cannot be read", why=why)
    owners = {one.name: one for one in helpers}
    ready_last = sorted(found.pods, key=lambda pod: pod.state is PodState.READY)
    pods = {pod.node: pod for pod in ready_last if pod.owner in owners}
    names = sorted({node.name for node in selected(helpers, found.nodes)} | pods.keys() - {""})
    say(f"asking the quote helpers of {len(names)} nodes")

    def read(node: str) -> Machine:
        try:
            return Machine(node, *_read(api, found.namespace, pods.get(node), owners))
        except ConfcomError as error:
            why, code = one_line(error.why or error.what), error.error_code
            return Machine(node, failure=PlatformUnknownError("its SVNs are not known", error_code=code, why=why))

    with futures.ThreadPoolExecutor(PAGES_AT_ONCE) as pool:
        return tuple(pool.map(read, names))


def _read(api: Api, namespace: str, pod: DaemonPod | None, owners: Mapping[str, Workload]) -> tuple[Svns, datetime]:
    if pod is None or pod.state is not PodState.READY:
        why = pod.described if pod else "no quote helper runs there"
        raise PlatformUnknownError(why, error_code="helper-not-ready")
    page = PlatformPage.from_json(api.probe_page(pod.name, namespace, "platform"))
    kind = SgxKind.SIMULATED if owners[pod.owner].simulates else SgxKind.HARDWARE
    if page.kind is not kind:
        what = f"its page says {page.kind}, and its DaemonSet {kind}"
        raise PlatformUnknownError(what, error_code="platform-differs")
    if page.tcb is None:
        raise PlatformUnknownError(page.why, error_code="no-quote-yet")
    return Svns.of_node(kind, page.tcb), page.tcb.not_after
