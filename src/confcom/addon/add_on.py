"""The add-on of one cluster, and what changes of it have in common."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from confcom.addon.detached import StopRequest, run_in_background
from confcom.addon.findings import Finding, PreflightError, failed
from confcom.addon.helm import BusyError, Helm, HelmError
from confcom.addon.history import Revision
from confcom.addon.hook_watch import HookWatch
from confcom.addon.journal import Journal, Phase, interrupted
from confcom.addon.kubectl import Cluster, KubeApi
from confcom.addon.looking import fetch_daemon_snapshot
from confcom.addon.objects import name_of
from confcom.addon.overwriting import prepare
from confcom.addon.plan import is_hook
from confcom.addon.preflight import judge
from confcom.addon.programs import ClusterAccessError, ForbiddenError, Run, within
from confcom.addon.rollout import NodeStep, Verdict, Watch, look, rollout
from confcom.addon.rollout_report import rows_of, stalled
from confcom.addon.running_change import RunningChangeError, busy, running_change
from confcom.addon.stalled_update import RestWatch, StalledUpdate
from confcom.addon.survey import Survey, Wish, survey
from confcom.addon.telling import Board, Mark, Row, Teller

T = TypeVar("T")

POLL_SECONDS = 1.5
"""Between two looks at the cluster. A look is two kubectls, which take a tenth of a second of CPU each."""

JOB_POLL_DELAY_SECONDS = 0.05
"""Before helm's Job is looked for: a helm that ends at once has none."""

HELM_EXIT_SECONDS = 5.0
"""For helm to end when somebody interrupts. `helm upgrade` records within a second that it failed; a rollback or an
uninstall waits for nothing, and takes a second or two. Whoever sent SIGTERM kills after 10 s as a rule."""

HISTORY_SECONDS = 3.0
"""For what helm has recorded then: a lookup takes a fifth of a second."""


@dataclass(frozen=True, slots=True)
class AddOn:
    """The add-on of one cluster.

    Args:
        cluster: which.
        run: runs kubectl and helm.
        teller: is told what happens.
        clock: seconds, of a clock that is never set.
        sleep: waits so many seconds.
        now: the time, by this machine's clock.
        journal: how far this command's change has come.
    """

    cluster: Cluster
    run: Run
    teller: Teller
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    now: Callable[[], datetime]
    journal: Journal = field(default_factory=Journal)

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
            RunningChangeError: another change is in the way.
        """
        with self.teller.busy("Checking the cluster"):
            seen = survey(self.helm, self.api, wish, self.now)
        findings = judge(seen.surroundings)
        self.teller.findings(findings)
        if isinstance(seen.surroundings.plan, RunningChangeError):
            raise seen.surroundings.plan
        if failed(findings):
            raise PreflightError(findings)
        return seen, findings

    def apply(self, chart: Path, seen: Survey) -> None:
        """Install or upgrade.

        Raises:
            ClusterAccessError: something cannot be read or patched.
            HelmError: it failed.
            RunningChangeError: another change is in the way.
        """
        self.journal.before = seen.history[-1].number if seen.history else 0
        title = "helm installs the chart"
        force: Sequence[str] = ()
        if seen.history:
            title = "helm upgrades the release"
            force = prepare(self.helm, self.api, seen.rendering.manifests if seen.rendering else ())
        self.run_watched(title, lambda helm: helm.upgrade(chart, seen.values, force), stoppable=True)

    def restore_revision(self, revision: int, title: str, *, last: int) -> None:
        """Make the release what a revision of it is; that may be the present one, for what has drifted from it.

        Args:
            revision: which.
            title: what is shown meanwhile.
            last: the number of the last revision.

        Raises:
            ClusterAccessError: something cannot be read or patched.
            HelmError: it failed.
            RunningChangeError: another change is in the way.
        """
        self.journal.before, self.journal.restores = last, True
        force = prepare(self.helm, self.api, self.helm.installed(revision))
        self.run_watched(title, lambda helm: helm.rollback(revision, force), stoppable=False)

    def run_watched(self, title: str, change: Callable[[Helm], None], *, stoppable: bool) -> None:
        """Let helm make a change, and watch the Job that it waits for: if that cannot start, its wait is cut short.

        Args:
            title: what is shown meanwhile.
            change: what helm does.
            stoppable: whether this helm, told to end, records what it has not done.

        Raises:
            HelmError: it failed; tells what was seen of the Job.
            RunningChangeError: another change is in the way.
        """
        watch = HookWatch()
        with self.teller.waiting(title) as board:

            def look() -> None:
                nonlocal watch
                with contextlib.suppress(ClusterAccessError):  # helm tells by itself if it stays away
                    seen = self.api.list_objects("pods,jobs.batch,events", self.cluster.namespace_flag)
                    watch = watch.after(seen, self.clock())
                    board.show(watch.rows)
                    for job in watch.stuck_jobs(self.clock()):
                        self.api.end_job(job)
                self.sleep(POLL_SECONDS)

            try:
                self.run_helm(change, stoppable=stoppable, meanwhile=look)
            except BusyError as error:
                raise busy(self.helm.history(), self.now(), made=self.journal.changes_without_helm) from error
            except HelmError as error:
                before = (
                    [f"done without helm: {self.journal.changes_without_helm}"]
                    if self.journal.changes_without_helm
                    else []
                )
                why = "; ".join([*watch.failure_reasons, error.why, *before])
                raise type(error)(error.what, why=why, remedy=error.remedy) from error
        # Helm has removed its Job. Others are of changes that failed or were interrupted: `status` would name them.
        with contextlib.suppress(ClusterAccessError):  # the change is made; the next one tidies as well
            if running_change(self.helm.history(), self.now()):
                return  # its Job is not to be taken from it
            if left := [
                name_of(job) for job in self.api.list_objects("jobs", self.cluster.namespace_flag) if is_hook(job)
            ]:
                self.api.delete("Job.batch", left, namespace=self.cluster.namespace)

    def run_helm(
        self, change: Callable[[Helm], None], *, stoppable: bool, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """Let helm make a change in a session of its own, so that an interruption finds a record that tells the truth.

        Args:
            change: what helm does.
            stoppable: as for `run_watched`.
            meanwhile: done again and again until helm has ended.

        Raises:
            HelmError: it failed.
            KeyboardInterrupt: somebody interrupts. Helm was asked to end if it is stoppable, and has had time to end.
        """
        stop, made = StopRequest(), futures.Future[None]()
        self.journal.phase, self.journal.helm_goes_on = Phase.HELM, True
        try:
            run_in_background(lambda: change(Helm(self.cluster, functools.partial(self.run, stop=stop))), made)
            while not futures.wait([made], JOB_POLL_DELAY_SECONDS).done:
                if meanwhile is not None:
                    meanwhile()
            self.journal.helm_goes_on = False
        except KeyboardInterrupt:
            if stoppable:
                stop.ask()
            self.journal.helm_goes_on = not futures.wait([made], HELM_EXIT_SECONDS).done
            raise
        made.result()
        self.journal.phase = Phase.MADE

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Turn an interruption into the error that says what was changed.

        Raises:
            ChangeInterruptedError: Ctrl-C, or SIGTERM where it is taken for that.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            raise interrupted(self.journal, self._recorded()) from error

    def _recorded(self) -> Sequence[Revision] | None:
        """What helm has recorded, if it tells soon."""
        if self.journal.phase is Phase.BEFORE:
            return ()
        try:
            return Helm(self.cluster, within(self.run, HISTORY_SECONDS)).history()
        except (ClusterAccessError, KeyboardInterrupt):  # whoever interrupts again does not want to wait
            return None

    def revision(self, *, deadline: float) -> int:
        """The release's number, after a change; asked for as patiently as `wait` looks.

        Raises:
            ClusterAccessError: the API server stayed away for as long as the deadline, or refuses.
        """
        history: Sequence[Revision] = self.retry_while_unreachable(self.helm.history, deadline=deadline)
        return history[-1].number if history else 0

    def retry_while_unreachable(self, ask: Callable[[], T], *, deadline: float, board: Board | None = None) -> T:
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
                seen = self.retry_while_unreachable(
                    lambda: fetch_daemon_snapshot(self.api), deadline=deadline, board=board
                )
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
