"""One run of `confcom test`: reads and rights, then at most 50 Pods at a time, one watch, and the results."""

import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil

from confcom.addon.api import (
    DAEMON_SET,
    EVENT,
    NAMESPACE,
    POD,
    SECRET,
    ClusterAccessError,
    ForbiddenError,
    RefusedError,
)
from confcom.addon.chart_objects import staging_of
from confcom.addon.command import AddOn
from confcom.addon.daemon_pods import daemon_pod, warnings_in
from confcom.addon.preflight import Permission
from confcom.addon.preflight_inputs import denied
from confcom.addon.simulated_root import read_platform, secret_name
from confcom.addon.snapshot import read_nodes
from confcom.kubernetes.names import NAME_LABEL, RELEASE, Component
from confcom.kubernetes.objects import KubernetesObject, name_of
from confcom.kubernetes.workload import Workload
from confcom.node_test import outcome, pod
from confcom.node_test.judgement import Trust, ending, refusal, release_trust
from confcom.node_test.outcome import MAX_LOG_BYTES, Cause, NodeResult, ProgramLog
from confcom.node_test.report import Report
from confcom.node_test.selection import NodeTestError, Target, select, targets

MAX_PODS = 50
"""Pods at a time: a scheduler places this many in a second, and more would leave more objects in the API server."""
WATCH_SECONDS = 20
"""Length of one watch, after which deadlines are checked again; proxies end idle requests after 30 s or more."""
PAUSE_SECONDS = 0.2
"""Pause between two watches, so that a server that ends each watch at once is not flooded."""
SETTLE_SECONDS = 10
"""Time in which a new namespace gets its ServiceAccount, and a quota counts a Pod's end; until then, the API server
may forbid Pods that it admits later."""
CHALLENGE_SIZE = 32


@dataclass(frozen=True, slots=True)
class NodeTestRequest:
    nodes: tuple[str, ...]
    everything: bool
    timeout: int
    """Seconds that each node's Pod may take."""
    image: str = ""
    trust: Trust | None = None
    """Trust by the person's files: in the program `image` on hardware; without `image`, in simulated nodes."""
    namespace: str = ""
    """A namespace that the person gave; empty if the run makes its own."""
    fail_within: timedelta = timedelta(0)
    without_program: bool = False


@dataclass(slots=True)
class _Running:
    target: Target
    challenge: bytes
    deadline: float
    last: KubernetesObject = field(default_factory=dict)
    """The Pod as it was last seen."""


def run_test(add_on: AddOn, request: NodeTestRequest, show: Callable[[NodeResult], None]) -> Report:
    """Test nodes of the add-on's cluster; `show` gets each result as soon as it is there."""
    api, source, started = add_on.cluster.api, add_on.cluster.namespace, add_on.clock()
    daemon_sets = tuple(api.list(DAEMON_SET, source, labels={NAME_LABEL: RELEASE}))
    pods = sorted(map(daemon_pod, api.list(POD, source)), key=lambda one: one.created)
    chosen = select(targets(read_nodes(api), daemon_sets, pods), request.nodes, everything=request.everything)
    run = _Run(add_on, request, chosen, [*map(Workload.parse, daemon_sets)])
    found = {}
    with run.place():
        for result in run.results():
            found[result.node] = result
            show(result)
    return Report(tuple(found[target.node.name] for target in chosen), add_on.clock() - started)


class _Run:
    """The namespace and the Pods of one run. Without a required permission, nothing is made."""

    def __init__(
        self, add_on: AddOn, request: NodeTestRequest, chosen: Sequence[Target], daemons: Sequence[Workload]
    ) -> None:
        self._add_on, self._request, self._chosen = add_on, request, chosen
        self._api, self._name = add_on.cluster.api, pod.NAME_PREFIX + secrets.token_hex(4)
        self._namespace = request.namespace or self._name
        self._pull_secrets = set() if request.namespace else {name for one in chosen for name in one.pull_secrets}
        self._seconds = pod.lifetime(len(chosen), MAX_PODS, request.timeout)
        self._running: dict[str, _Running] = {}
        self._settled = add_on.clock() + SETTLE_SECONDS
        self._trusts = {} if request.trust is None else {request.trust.simulated: request.trust}
        """Trust in quotes of simulated nodes (True) and of hardware nodes (False), as far as needed."""
        reads_root = any(target.simulated for target in chosen) and True not in self._trusts
        if lacking := denied(self._api, self._permissions(reads_root=reads_root)):
            why = f"not allowed: {'; '.join(map(str, lacking))}"
            remedy = "ask for them (docs/how-to/test-a-cluster.md), or give --namespace-for-test, --root, --collateral"
            what = "this user lacks permissions for the test; nothing was made"
            raise NodeTestError(what, error_code="permissions-missing", why=why, remedy=remedy)
        if reads_root:
            helpers = [one for one in daemons if one.component is Component.QUOTE_HELPER]
            platform = read_platform(add_on.cluster, secret_name(helpers))
            self._trusts[True] = release_trust(platform, staging_of(helpers), add_on.now())

    def _permissions(self, *, reads_root: bool) -> Iterator[Permission]:
        for verb in ("create", "list", "watch", "delete"):
            yield Permission(verb, "pods", namespace=self._namespace)
            if verb != "watch" and not self._request.namespace:
                yield Permission(verb, "namespaces")
        yield Permission("get", "pods/log", namespace=self._namespace)
        yield Permission("list", "events", namespace=self._namespace)
        if reads_root or self._pull_secrets:
            yield Permission("get", "secrets", namespace=self._add_on.cluster.namespace)
        if self._pull_secrets:
            yield Permission("create", "secrets", namespace=self._namespace)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Make a namespace with copies of the pull secrets, and remove it; of a person's namespace, remove our Pods."""
        own = not self._request.namespace
        try:
            if own:
                self._api.create(pod.namespace_manifest(self._namespace, self._seconds, self._chosen))
            for name in sorted(self._pull_secrets):
                if found := self._api.get(SECRET, name, self._add_on.cluster.namespace):
                    self._api.create({**found, "metadata": {"name": name, "namespace": self._namespace}})
            yield
        finally:
            if own:
                self._api.delete(NAMESPACE, self._namespace)
            else:
                for name in self._running:
                    self._api.delete(POD, name, self._namespace)

    def results(self) -> Iterator[NodeResult]:
        waiting = deque(enumerate(self._chosen))
        yield from self._start(waiting)
        kind, namespace = (POD, self._namespace) if self._request.namespace else (NAMESPACE, "")
        for left in pod.expired([*self._api.list(kind, namespace)]):
            self._api.delete(kind, name_of(left), namespace)
        while waiting or self._running:
            yield from self._start(waiting)
            if self._running:
                yield from self._watch(waiting)
                yield from self._late()
            self._add_on.sleep(PAUSE_SECONDS)

    def _start(self, waiting: deque[tuple[int, Target]]) -> Iterator[NodeResult]:
        while waiting and len(self._running) < MAX_PODS:
            index, target = waiting[0]
            name, challenge = f"{self._name}-{index}", secrets.token_bytes(CHALLENGE_SIZE)
            metadata = {"name": name, "namespace": self._namespace, "labels": {pod.TEST_LABEL: str(self._seconds)}}
            spec = pod.pod_spec(target, challenge, image=self._request.image, timeout=self._request.timeout)
            others = bool(self._running)
            self._running[name] = _Running(target, challenge, self._add_on.clock() + self._request.timeout)
            try:
                self._api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
            except (ForbiddenError, RefusedError) as error:
                del self._running[name]
                if others or self._add_on.clock() < self._settled:
                    return
                yield NodeResult(target.node.name, target.simulated, cause=Cause.of(error, code="pod-refused"))
            waiting.popleft()

    def _watch(self, waiting: deque[tuple[int, Target]]) -> Iterator[NodeResult]:
        left = min(one.deadline for one in self._running.values()) - self._add_on.clock()
        seconds = max(1, min(WATCH_SECONDS, ceil(left)))
        with contextlib.closing(self._api.watch_pods(self._namespace, pod.TEST_LABEL, seconds)) as seen:
            for last in seen:
                if (one := self._running.get(name_of(last))) is None:
                    continue
                one.last = last
                if outcome.exit_code(last) is not None or outcome.failure(last):
                    yield self._finish(name_of(last), self._outcome(one))
                    yield from self._start(waiting)
                    if not self._running:
                        return
                if self._add_on.clock() >= min(one.deadline for one in self._running.values()):
                    return

    def _late(self) -> Iterator[NodeResult]:
        now = self._add_on.clock()
        late = {name: one for name, one in self._running.items() if one.deadline <= now}
        warnings = warnings_in(self._api.list(EVENT, self._namespace)) if late else {}
        for name, one in late.items():
            warning = warnings[name].text if name in warnings else ""
            yield self._finish(name, self._result(one, cause=outcome.failure(one.last, late=True, warning=warning)))

    def _finish(self, name: str, result: NodeResult) -> NodeResult:
        self._api.delete(POD, name, self._namespace)
        del self._running[name]
        self._settled = self._add_on.clock() + SETTLE_SECONDS
        return result

    def _result(self, one: _Running, log: ProgramLog | None = None, cause: Cause | None = None) -> NodeResult:
        name, epc, log = one.target.node.name, outcome.has_epc(one.last), log or ProgramLog()
        return NodeResult(name, one.target.simulated, epc, log.device, log.quote_ms, cause=cause)

    def _outcome(self, one: _Running) -> NodeResult:
        if cause := outcome.failure(one.last):
            return self._result(one, cause=cause)
        try:
            text = self._api.log(name_of(one.last), self._namespace, first_bytes=MAX_LOG_BYTES)
        except ClusterAccessError as error:
            return self._result(one, cause=Cause.of(error, code="log-not-read"))
        log, trust, now = ProgramLog.parse(text), self._trusts.get(one.target.simulated), self._add_on.now()
        if cause := outcome.program_failure(log, outcome.exit_code(one.last) or 0, needs_quote=trust is not None):
            return self._result(one, log, cause)
        if trust is None:
            what = "EPC, device and aesmd answer; no enclave made a quote"
            remedy = "give an enclave program with --image, or accept this with --without-program"
            bare = self._result(one, log, Cause(what, remedy, code="no-enclave-program"))
            return replace(bare, accepted=self._request.without_program)
        if cause := refusal(log.quote, one.challenge, trust, now):
            return self._result(one, log, cause)
        return replace(self._result(one, log, ending(log.quote, trust, now, self._request.fail_within)), verified=True)
