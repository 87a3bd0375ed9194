"""Waiting until the add-on is ready: status in a loop, until every step is done or none makes progress."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeVar

from confcom.addon.api import ClusterAccessError, ForbiddenError
from confcom.addon.login import Cluster
from confcom.addon.problems import Problem, shown
from confcom.addon.snapshot import read_daemons
from confcom.addon.status import AddOnStatus, Step, add_on_status
from confcom.errors import ConfcomError, ExitCode

if TYPE_CHECKING:
    from confcom.addon.preflight import Finding

POLL_SECONDS = 0.5
STUCK_SECONDS = 60.0
"""A Pod may fail for so long: enough for several restarts and pulls, whose back-off grows to 40 s by then."""
MAX_STEPS = 60
"""With more steps, a table shows a count, and the first steps that are not done."""
_MAX_OPEN = 10
NOT_CREATED = frozenset({"pods-not-created"})
NOT_SHOWN = frozenset({"epc-not-reported", "capacity-not-written"})
"""Codes of problems: a daemon lacks its Pod, and a node's status lacks EPC that its kubelet has."""

T = TypeVar("T")


class Mark(StrEnum):
    DONE = "done"
    WAITING = "waiting"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Row:
    subject: str
    text: str
    mark: Mark


class ProgressReporter(Protocol):
    """Reports progress to people; programs do not read it."""

    def say(self, line: str) -> None:
        """Print one line."""

    def findings(self, findings: Sequence[Finding]) -> None:
        """Print preflight's findings."""

    def table(self, title: str) -> ProgressTable:
        """Print what is waited for, and return what shows how far it is."""


class ProgressTable(Protocol):
    def show(self, rows: Sequence[Row], *, note: str = "") -> None:
        """Show the current rows."""


class NotReadyError(ConfcomError):
    """The add-on is not ready."""

    error_code = "daemons-not-ready"
    exit_code = ExitCode.NOT_READY


def wait_until_ready(
    cluster: Cluster,
    table: ProgressTable,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    *,
    timeout: float,
    until_gone: Collection[str] = NOT_CREATED,
) -> AddOnStatus:
    """Wait until every daemon is ready on every node that it selects, the Deployments run, and these problems are gone.

    A device plugin is ready when the kubelet has all of its resources.
    """
    reached: set[tuple[str, str, str]] = set()
    progress_at = clock()
    failing_since: float | None = None

    while True:
        found = retry_while_unreachable(lambda: read_daemons(cluster), table.show, clock, sleep, timeout=timeout)
        status, now = add_on_status(found), clock()
        problems = [one for one in status.problems if one.code in until_gone]
        table.show(list(rows_of(status, problems)))
        if is_done(status) and not problems:
            return status
        done = {(step.node, step.kind, step.pod) for step in status.steps if step.done}
        if not done <= reached:
            reached |= done
            progress_at, failing_since = now, None
        if not (any(one.failing for one in status.deployments) or any(step.failing for step in status.steps)):
            failing_since = None
        elif failing_since is None:
            failing_since = now
        if now - progress_at >= timeout or (failing_since is not None and now - failing_since >= STUCK_SECONDS):
            raise not_ready(status, problems)
        sleep(POLL_SECONDS)


def retry_while_unreachable(
    ask: Callable[[], T],
    show: Callable[[Sequence[Row]], None],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    *,
    timeout: float,
) -> T:
    """Query the cluster; retry for `timeout` seconds while its API server is away; show the first failure."""
    begun, away = clock(), False
    while True:
        try:
            return ask()
        except ClusterAccessError as error:
            # An API server that has just started refuses every request until it has loaded its RBAC rules.
            if (isinstance(error, ForbiddenError) and not away) or clock() - begun >= timeout:
                raise
            if not away:
                show([Row("API server", error.why or error.what, Mark.BAD)])
            away = True
        sleep(POLL_SECONDS)


def is_done(status: AddOnStatus) -> bool:
    return (
        status.enabled
        and status.observed
        and not any(one.waits_for for one in status.deployments)
        and all(step.done for step in status.steps)
    )


def rows_of(status: AddOnStatus, problems: Sequence[Problem]) -> Iterator[Row]:
    """Yield the rows of a progress table: one for each step, or in a large cluster a count and a few open steps."""
    if not status.enabled:
        yield Row("add-on", f"not enabled in the namespace {status.namespace}", Mark.WAITING)
    for problem in problems[:_MAX_OPEN]:
        what, _, why = str(problem).partition(": ")
        yield Row(what.removeprefix("the "), why, Mark.WAITING if problem.code in NOT_SHOWN else Mark.BAD)
    steps: Sequence[Step] = status.steps
    if len(steps) > MAX_STEPS:
        left = [step for step in steps if not step.done]
        words = f"{len(steps) - len(left)} of {len(steps)} steps are done"
        yield Row("all nodes", words, Mark.WAITING if left else Mark.DONE)
        steps = left[:_MAX_OPEN]
    for step in steps:
        mark = Mark.DONE if step.done else Mark.BAD if step.failing else Mark.WAITING
        yield Row(f"{step.node}  {step.kind}", step.text, mark)
    for one in status.deployments:
        if one.waits_for:
            yield Row(one.component, one.waits_for, Mark.BAD if one.failing else Mark.WAITING)


def not_ready(status: AddOnStatus, problems: Sequence[Problem]) -> NotReadyError:
    if not status.enabled:
        what = f"the add-on is not enabled in the namespace {status.namespace}"
        return NotReadyError(what, error_code="not-enabled", remedy="`confcom enable` installs it")
    blocked = [step for step in status.steps if not step.done]
    reasons = [*map(str, problems), *(f"{step.node}: {step.kind} {step.text}" for step in blocked)]
    reasons += [f"{one.component}: {one.waits_for}" for one in status.deployments if one.waits_for]
    more = [f"{len(reasons) - _MAX_OPEN} more"] if len(reasons) > _MAX_OPEN else []
    why = "; ".join([*reasons[:_MAX_OPEN], *more]) or "the DaemonSet controller has not observed the newest templates"
    nodes, serving = (sorted({one.node for one in blocked if one.serving or some}) for some in (True, False))
    still = f" ({shown(serving)}: the old one keeps serving)" if serving else ""
    what = f"the add-on is not ready{' on ' if nodes else ''}{shown(nodes)}{still}"
    remedy = "`confcom status` shows more; the same command continues, and `confcom rollback` undoes the last change"
    if away := [node.name for node in status.nodes if not node.ready and node.name in nodes]:
        gone = f"or remove it from the cluster (kubectl delete node {away[0]}); otherwise"
        remedy = f"bring {shown(away)} back, and the rollout continues, {gone} {remedy}"
    return NotReadyError(what, why=why, remedy=remedy)
