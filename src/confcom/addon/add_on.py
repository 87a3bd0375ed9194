"""The add-on of one cluster, and what changes of it have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from confcom.addon.findings import Finding, Outcome, PreflightError, failed
from confcom.addon.helm import Helm, HelmError
from confcom.addon.history import Revision
from confcom.addon.hook_watch import HookWatch, failed_hooks
from confcom.addon.kubectl import Cluster, KubeApi
from confcom.addon.looking import look_at_daemons
from confcom.addon.node_checks import shown
from confcom.addon.overwriting import prepare
from confcom.addon.preflight import judge
from confcom.addon.programs import ClusterAccessError, ForbiddenError, Run
from confcom.addon.rollout import NodeStep, Rollout, Step, Verdict, Watch, look, rollout
from confcom.addon.stalled_update import RestWatch, StalledUpdate
from confcom.addon.survey import Survey, Wish, survey
from confcom.addon.telling import Board, Mark, Row, Teller
from confcom.errors import ConfcomError, ExitCode

T = TypeVar("T")

POLL_SECONDS = 1.5
"""Between two looks at the cluster. A look is two kubectls, which take a tenth of a second of CPU each."""

GLANCE_SECONDS = 0.05
"""Before helm's Job is looked for: a helm that ends at once has none."""


class NotReadyError(ConfcomError):
    """The daemons are not as they were asked to be."""

    exit_code = ExitCode.NOT_READY


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change came to.

    Args:
        changed: whether the release is another one now.
        revision: the release's number; 0: there is none.
        findings: what preflight found.
        steps: each daemon on each node, as they were at the end; none if it was not waited for.
    """

    changed: bool
    revision: int
    findings: tuple[Finding, ...] = ()
    steps: tuple[NodeStep, ...] = ()

    def to_json(self) -> dict[str, object]:
        """For `--output json`."""
        return {
            "changed": self.changed,
            "revision": self.revision,
            "warnings": [one.what for one in self.findings if one.outcome is Outcome.WARNING],
            "nodes": [{"node": step.node, "step": step.step, "state": step.text} for step in self.steps],
        }


@dataclass(frozen=True, slots=True)
class AddOn:
    """The add-on of one cluster.

    Args:
        cluster: which.
        run: runs kubectl and helm.
        teller: is told what happens.
        clock: seconds, of a clock that is never set.
        sleep: waits so many seconds.
    """

    cluster: Cluster
    run: Run
    teller: Teller
    clock: Callable[[], float]
    sleep: Callable[[float], None]

    @property
    def api(self) -> KubeApi:
        """The cluster's objects."""
        return KubeApi(self.cluster, self.run)

    @property
    def helm(self) -> Helm:
        """The release."""
        return Helm(self.cluster, self.run)

    def preflight(self, wish: Wish) -> tuple[Survey, tuple[Finding, ...]]:
        """Look at everything that could make the change fail, and tell it.

        Raises:
            PreflightError: something would.
        """
        with self.teller.busy("Checking the cluster"):
            seen = survey(self.helm, self.api, wish)
        findings = judge(seen.surroundings)
        self.teller.findings(findings)
        if failed(findings):
            raise PreflightError(findings)
        return seen, findings

    def apply(self, chart: Path, seen: Survey) -> None:
        """Install or upgrade.

        Raises:
            ClusterAccessError: something cannot be read or patched.
            HelmError: it failed.
        """
        if not seen.history:
            self.under_watch("helm installs the chart", lambda: self.helm.upgrade(chart, seen.values))
            return
        force = prepare(self.helm, self.api, seen.rendering.manifests if seen.rendering else ())
        self.under_watch("helm upgrades the release", lambda: self.helm.upgrade(chart, seen.values, force))

    def set_back(self, revision: int, title: str) -> None:
        """Make the release what a revision of it is; that may be the present one, for what has drifted from it.

        Raises:
            ClusterAccessError: something cannot be read or patched.
            HelmError: it failed.
        """
        force = prepare(self.helm, self.api, self.helm.installed(revision))
        self.under_watch(title, lambda: self.helm.rollback(revision, force))

    def under_watch(self, title: str, change: Callable[[], None]) -> None:
        """Let helm make a change, and watch the Job that it waits for: if that cannot start, its wait is cut short.

        Raises:
            HelmError: it failed; tells what was seen of the Job.
        """
        watch = HookWatch()
        with self.teller.waiting(title) as board, futures.ThreadPoolExecutor(max_workers=1) as beside:
            made = beside.submit(change)
            while not futures.wait([made], GLANCE_SECONDS).done:
                with contextlib.suppress(ClusterAccessError):  # helm tells by itself if it stays away
                    seen = self.api.list_objects("pods,jobs.batch,events", self.cluster.here)
                    watch = watch.after(seen, self.clock())
                    board.show(watch.rows)
                    for job in watch.hopeless(self.clock()):
                        self.api.end_job(job)
                self.sleep(POLL_SECONDS)
            try:
                made.result()
            except HelmError as error:
                why = "; ".join([*watch.told, error.why])
                raise type(error)(error.what, why=why, remedy=error.remedy) from error
        # Those of changes before this one, which is made: `status` would go on naming them.
        with contextlib.suppress(ClusterAccessError):  # the change is made; the next one tidies as well
            if failed := list(failed_hooks(self.api.list_objects("jobs", self.cluster.here))):
                self.api.delete("Job.batch", failed, namespace=self.cluster.namespace)

    def revision(self, *, deadline: float) -> int:
        """The release's number, after a change; asked for as patiently as `wait` looks.

        Raises:
            ClusterAccessError: the API server stayed away for as long as the deadline, or refuses.
        """
        history: Sequence[Revision] = self.patiently(self.helm.history, deadline=deadline)
        return history[-1].number if history else 0

    def patiently(self, ask: Callable[[], T], *, deadline: float, board: Board | None = None) -> T:
        """Ask the cluster, again if its API server is away: a change that was made is not to be given up for that.

        Args:
            ask: what; done again from its beginning.
            deadline: seconds until it has to answer.
            board: where it is shown that it is away.

        Raises:
            ForbiddenError: it refuses.
            ClusterAccessError: it stayed away for as long.
        """
        asked, away = self.clock(), False
        while True:
            try:
                return ask()
            except ClusterAccessError as error:
                # An API server that has just started refuses everybody, until it has read who may do what.
                if (isinstance(error, ForbiddenError) and not away) or self.clock() - asked >= deadline:
                    raise
                if board is not None:
                    board.show([Row("API server", error.why or error.what, Mark.BAD)])
                elif not away:
                    self.teller.say(f"The API server is waited for: {error.why or error.what}")
                away = True
            self.sleep(POLL_SECONDS)

    def wait(self, title: str, *, deadline: float, remedy: str) -> tuple[NodeStep, ...]:
        """Wait until every daemon is ready on every node; give up when nothing goes on.

        Args:
            title: what is waited for.
            deadline: seconds without progress.
            remedy: what to do if it stalls.

        Raises:
            NotReadyError: it stalled; says where and why.
            ClusterAccessError: the API server stayed away for as long, or refuses.
        """
        watch: Watch | None = None
        rest = RestWatch()
        with self.teller.waiting(title) as board:
            while True:
                seen = self.patiently(lambda: look_at_daemons(self.api), deadline=deadline, board=board)
                state = rollout(seen)
                watch, verdict = look(watch, state, self.clock(), deadline=deadline)
                board.show(rows_of(state))
                if verdict is Verdict.DONE:
                    return state.steps
                if verdict is Verdict.STALLED:
                    raise stalled(state, remedy)
                rest, standing = rest.after(seen, self.clock())
                for update in standing:
                    self._reconcile(update)
                self.sleep(POLL_SECONDS)

    def _reconcile(self, update: StalledUpdate) -> None:
        """Make the DaemonSet controller reconcile an update that stands still."""
        what = f"The update of the DaemonSet {update.daemon_set} stood still with every Pod ready"
        try:
            self.api.annotate("daemonset.apps", update.daemon_set, update.annotation)
        except ClusterAccessError as error:  # the wait goes on, and its end tells where it stands
            why = f"the controller could not be made to reconcile it again ({error.why})"
            self.teller.say(f"{what}, and {why}: {update.remedy}")
        else:
            how = f"by the annotation {update.annotation}"
            self.teller.say(f"{what}: the controller was made to reconcile it again, {how}.")


def _first(steps: Sequence[NodeStep]) -> list[NodeStep]:
    """Without the steps that wait for another one on their node."""
    daemons = {step.node for step in steps if step.step is not Step.EPC}
    return [step for step in steps if step.step is not Step.EPC or step.node not in daemons]


def rows_of(state: Rollout) -> list[Row]:
    """A rollout as people read it."""
    told = (problem.partition(": ") for problem in state.problems)
    rows = [Row(f"DaemonSet {name}", why, Mark.BAD) for name, _, why in told]
    for step in state.steps:
        mark = Mark.DONE if step.done else Mark.BAD if step.failing else Mark.WAITING
        rows.append(Row(f"{step.node}  {step.step}", step.text, mark))
    return rows


def stalled(state: Rollout, remedy: str) -> NotReadyError:
    """The error that says where it stalled, and why."""
    blocked = _first(state.open)
    reasons = [*state.problems, *(f"{step.node}: {step.step} {step.text}" for step in blocked)]
    nodes = sorted({step.node for step in blocked})
    what = f"the add-on is not ready on {', '.join(nodes)}" if nodes else "the daemons' Pods cannot be made"
    serving = sorted({step.node for step in blocked if step.serving})
    if serving:
        what += f" ({', '.join(serving)}: the old one goes on serving)"
    down = sorted({step.node for step in blocked if not step.node_ready})
    if down:
        remedy = (
            f"bring {shown(down)} back, which goes on by itself then, or take it out of the cluster "
            f"(kubectl delete node {down[0]}); else {remedy}"
        )
    return NotReadyError(what, why="; ".join(reasons) or "the DaemonSet controller does not act", remedy=remedy)
