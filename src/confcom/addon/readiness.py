"""Wait until the add-on is ready: read its status in a loop, until all steps are done or progress stops."""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import TypeVar

from confcom.addon.api import ClusterAccessError, ForbiddenError
from confcom.addon.command import AddOn, Mark, Row
from confcom.addon.problems import Problem, shown
from confcom.addon.snapshot import read_daemons
from confcom.addon.status import AddOnStatus, Step, add_on_status
from confcom.errors import ConfcomError, ExitCode

POLL_SECONDS = 0.5
STUCK_SECONDS = 60.0
"""The wait ends if a Pod fails for this time, which allows several restarts and pulls (back-off to 40 s)."""
MAX_STEPS = 60
"""Maximum number of steps in a table; for more steps, the table shows a count and the first open steps."""
_MAX_OPEN = 10
NOT_CREATED = frozenset({"pods-not-created"})
NOT_SHOWN = frozenset({"epc-not-reported", "capacity-not-written"})
"""Problem codes. NOT_CREATED: a daemon lacks its Pods. NOT_SHOWN: a node's status lacks the node's EPC."""

T = TypeVar("T")


class NotReadyError(ConfcomError):
    """The add-on is not ready."""

    error_code = "daemons-not-ready"
    exit_code = ExitCode.NOT_READY


def wait_until_ready(add_on: AddOn, *, timeout: float, until_gone: Collection[str] = NOT_CREATED) -> AddOnStatus:
    """Wait until all daemons are ready on their nodes, Deployments run, and no problem's code is in `until_gone`.

    A device plugin is ready when the kubelet has all of the plugin's resources.
    """
    table, reached = add_on.reporter.table("Waiting for the daemons"), set[tuple[str, str, str]]()
    progress_at = add_on.clock()
    failing_since: float | None = None

    while True:
        read = partial(read_daemons, add_on.cluster)
        status = add_on_status(retry_while_unreachable(add_on, read, table.show, timeout=timeout))
        now = add_on.clock()
        problems = [one for one in status.problems if one.code in until_gone]
        table.show(list(rows_of(status, problems)))
        waits = bool(problems) or any(one.waits_for for one in status.deployments)
        if status.enabled and status.observed and not waits and all(step.done for step in status.steps):
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
        add_on.sleep(POLL_SECONDS)


def retry_while_unreachable(
    add_on: AddOn, ask: Callable[[], T], show: Callable[[Sequence[Row]], None], *, timeout: float
) -> T:
    """Call `ask`. While the API server is away, retry for `timeout` seconds; show only the first failure."""
    begun, away = add_on.clock(), False
    while True:
        try:
            return ask()
        except ClusterAccessError as error:
            # An API server that has just started refuses every request until it has loaded its RBAC rules.
            if (isinstance(error, ForbiddenError) and not away) or add_on.clock() - begun >= timeout:
                raise
            if not away:
                show([Row("API server", error.why or error.what, Mark.BAD)])
            away = True
        add_on.sleep(POLL_SECONDS)


def rows_of(status: AddOnStatus, problems: Sequence[Problem]) -> Iterator[Row]:
    """Yield a progress table's rows: a row for each step; in a large cluster, a count and the first open steps."""
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
