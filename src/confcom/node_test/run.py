"""One run of `confcom test`: reads and rights, then at most 50 Pods at a time, one watch, and the results."""

from __future__ import annotations

import contextlib
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil

from confcom.addon.api import AT_ONCE, DAEMON_SET, EVENT, POD, ClusterAccessError, ForbiddenError, RefusedError
from confcom.addon.chart_objects import staging_of
from confcom.addon.command import AddOn
from confcom.addon.daemon_pods import daemon_pod, warnings_in
from confcom.addon.preflight import Permission
from confcom.addon.simulated_root import read_seed, secret_name
from confcom.addon.snapshot import read_nodes
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.names import NAME_LABEL, RELEASE, Component
from confcom.kubernetes.objects import KubernetesObject, name_of
from confcom.kubernetes.workload import Workload
from confcom.node_test import outcome
from confcom.node_test.judgement import Trust, ending, refusal, release_trust
from confcom.node_test.namespace import given_namespace, new_name, own_namespace, pull_secrets, remove_left_over
from confcom.node_test.outcome import MAX_LOG_BYTES, Cause, NodeResult, ProgramLog
from confcom.node_test.pod import TEST_LABEL, lifetime, pod_manifest
from confcom.node_test.report import Report
from confcom.node_test.selection import Target, select, targets
from confcom.simulation.platform import SimulatedPlatform

MAX_PODS = 50
"""Pods at a time: a scheduler places this many in a second, and the API server keeps as many objects of ours."""
WATCH_SECONDS = 20
"""Length of one watch, after which deadlines are checked again; proxies end idle requests after 30 s or more."""
PAUSE_SECONDS = 0.2
"""Pause between two watches, so that a server that ends each watch at once is not flooded."""
SETTLE_SECONDS = 10
"""Time in which a new namespace gets its ServiceAccount; until then, the API server forbids Pods."""
CHALLENGE_SIZE = 32

_PROGRAM_REMEDY = "give an enclave program with --image, or accept this with --without-program"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What the person asked for."""

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


class RightsError(ConfcomError):
    """The user lacks permissions for the test; nothing was made."""

    error_code = "permissions-missing"
    exit_code = ExitCode.REFUSED


@dataclass(slots=True)
class _Running:
    target: Target
    challenge: bytes
    deadline: float
    last: KubernetesObject = field(default_factory=dict)
    """The Pod as it was last seen."""


def run_test(add_on: AddOn, request: RunRequest, show: Callable[[NodeResult], None]) -> Report:
    """Test nodes of the add-on's cluster; `show` gets each result as soon as it is there.

    Raises:
        SelectionError: no quote helper selects such a node.
        RightsError: the user lacks a permission.
        ClusterAccessError: the API server does not answer.
    """
    api, started = add_on.cluster.api, add_on.clock()
    daemon_sets = tuple(api.list(DAEMON_SET, add_on.cluster.namespace, labels={NAME_LABEL: RELEASE}))
    pods = sorted(map(daemon_pod, api.list(POD, add_on.cluster.namespace)), key=lambda pod: pod.created)
    chosen = select(targets(read_nodes(api), daemon_sets, pods), request.nodes, everything=request.everything)
    name = request.namespace or new_name()
    _require_rights(add_on, request, chosen, name)
    run = _Run(add_on, request, name, _trusts(add_on, request, chosen, daemon_sets), len(chosen))
    remove_left_over(api, request.namespace, add_on.now())
    own = own_namespace(api, name, add_on.cluster.namespace, chosen, run.seconds)
    with given_namespace(api, name, run.prefix) if request.namespace else own:
        found = {}
        for result in run.results(chosen):
            found[result.node] = result
            show(result)
    return Report(tuple(found[target.node.name] for target in chosen), add_on.clock() - started)


def _trusts(
    add_on: AddOn, request: RunRequest, chosen: Sequence[Target], daemon_sets: Sequence[KubernetesObject]
) -> dict[bool, Trust]:
    """Return the trust in quotes of simulated nodes (True) and of hardware nodes (False), as far as needed."""
    found = {} if request.trust is None else {request.trust.simulated: request.trust}
    if any(target.kind.simulated for target in chosen) and True not in found:
        helpers = [one for one in map(Workload.parse, daemon_sets) if one.component is Component.QUOTE_HELPER]
        platform = SimulatedPlatform.of_root(read_seed(add_on.cluster, secret_name(helpers)))
        found[True] = release_trust(platform, staging_of(helpers), add_on.now())
    return found


def _require_rights(add_on: AddOn, request: RunRequest, chosen: Sequence[Target], name: str) -> None:
    own, source = not request.namespace, add_on.cluster.namespace
    reads_root = any(target.kind.simulated for target in chosen) and (request.trust is None or bool(request.image))
    copies = own and any(map(pull_secrets, chosen))
    wanted = [Permission(verb, "pods", namespace=name) for verb in ("create", "list", "watch", "delete")]
    wanted += [Permission("get", "pods/log", namespace=name), Permission("list", "events", namespace=name)]
    wanted += [Permission(verb, "namespaces") for verb in ("create", "list", "delete") if own]
    wanted += [Permission("get", "secrets", namespace=source)] if reads_root or copies else []
    wanted += [Permission("create", "secrets", namespace=name)] if copies else []
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        allowed = pool.map(lambda one: add_on.cluster.api.is_allowed(one.attributes), wanted)
        denied = [str(one) for one, may in zip(wanted, allowed, strict=True) if not may]
    if denied:
        remedy = (
            "ask for them (docs/how-to/test-a-cluster.md); --namespace-for-test, --root and --collateral need fewer"
        )
        raise RightsError("this user lacks permissions", why=f"not allowed: {'; '.join(denied)}", remedy=remedy)


class _Run:
    """The Pods of one run."""

    def __init__(
        self, add_on: AddOn, request: RunRequest, namespace: str, trusts: dict[bool, Trust], count: int
    ) -> None:
        self._add_on, self._request, self._namespace, self._trusts = add_on, request, namespace, trusts
        self._api = add_on.cluster.api
        self.prefix = f"confcom-test-{secrets.token_hex(4)}-"
        self._settled = self._add_on.clock() + SETTLE_SECONDS
        self.seconds = lifetime(count, MAX_PODS, request.timeout)
        self._running: dict[str, _Running] = {}

    def results(self, chosen: Sequence[Target]) -> Iterator[NodeResult]:
        """Start the Pods in turn, and yield each node's result."""
        waiting = deque(enumerate(chosen))
        while waiting or self._running:
            yield from self._start(waiting)
            if self._running:
                yield from self._watch(waiting)
                yield from self._late()
            self._add_on.sleep(PAUSE_SECONDS)

    def _start(self, waiting: deque[tuple[int, Target]]) -> Iterator[NodeResult]:
        while waiting and len(self._running) < MAX_PODS:
            index, target = waiting[0]
            name, challenge = f"{self.prefix}{index}", secrets.token_bytes(CHALLENGE_SIZE)
            pod = pod_manifest(
                target,
                name,
                self._namespace,
                challenge,
                image=self._request.image,
                timeout=self._request.timeout,
                seconds=self.seconds,
            )
            try:
                self._api.create(pod)
                self._running[name] = _Running(target, challenge, self._add_on.clock() + self._request.timeout)
            except (ForbiddenError, RefusedError) as error:
                if isinstance(error, ForbiddenError) and self._add_on.clock() < self._settled:
                    return
                yield NodeResult(target.node.name, target.kind.simulated, cause=Cause.of(error, code="pod-refused"))
            waiting.popleft()

    def _watch(self, waiting: deque[tuple[int, Target]]) -> Iterator[NodeResult]:
        left = min(one.deadline for one in self._running.values()) - self._add_on.clock()
        seconds = max(1, min(WATCH_SECONDS, ceil(left)))
        with contextlib.closing(self._api.watch_pods(self._namespace, TEST_LABEL, seconds)) as pods:
            for pod in pods:
                if (one := self._running.get(name_of(pod))) is None:
                    continue
                one.last = pod
                if outcome.has_ended(pod) or outcome.failure(pod):
                    yield self._finish(name_of(pod), self._outcome(one))
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
            cause = outcome.late_failure(one.last, warnings[name].text if name in warnings else "")
            yield self._finish(name, self._result(one, cause=cause))

    def _finish(self, name: str, result: NodeResult) -> NodeResult:
        del self._running[name]
        self._api.delete(POD, name, self._namespace)
        return result

    def _result(self, one: _Running, log: ProgramLog | None = None, cause: Cause | None = None) -> NodeResult:
        log, target = log or ProgramLog(), one.target
        return NodeResult(
            target.node.name, target.kind.simulated, outcome.has_epc(one.last), log.device, log.quote_ms, cause=cause
        )

    def _outcome(self, one: _Running) -> NodeResult:
        if cause := outcome.failure(one.last):
            return self._result(one, cause=cause)
        try:
            text = self._api.log(name_of(one.last), self._namespace, first_bytes=MAX_LOG_BYTES)
        except ClusterAccessError as error:
            return self._result(one, cause=Cause.of(error, code="log-not-read"))
        log, trust, now = ProgramLog.parse(text), self._trusts.get(one.target.kind.simulated), self._add_on.now()
        cause = outcome.program_failure(log, outcome.exit_code(one.last), needs_quote=trust is not None)
        if cause:
            return self._result(one, log, cause)
        if trust is None:
            bare = Cause(
                "EPC, device and aesmd answer; no enclave made a quote", _PROGRAM_REMEDY, code="no-enclave-program"
            )
            return replace(self._result(one, log, bare), accepted=self._request.without_program)
        if cause := refusal(log.quote, one.challenge, trust, now):
            return self._result(one, log, cause)
        soon = ending(log.quote, trust, now, self._request.fail_within)
        return replace(self._result(one, log, soon), verified=True)
