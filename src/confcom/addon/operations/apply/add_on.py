"""The add-on of one cluster, and the steps that all changes of it share."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from confcom.addon.cluster.helm import BusyError, Helm, HelmError
from confcom.addon.cluster.installed_release import read_live
from confcom.addon.cluster.kubectl import Cluster, KubeApi
from confcom.addon.cluster.preflight_reader import InstallRequest, PreflightContext, survey
from confcom.addon.cluster.processes import Watch
from confcom.addon.cluster.programs import ClusterAccessError, ForbiddenError, Run
from confcom.addon.cluster.snapshot_reader import fetch_daemon_snapshot
from confcom.addon.model.chart_objects import is_hook
from confcom.addon.operations.apply.journal import Journal, Phase, interrupted
from confcom.addon.preflight.findings import Finding, PreflightError, failed
from confcom.addon.preflight.preflight import judge
from confcom.addon.release.drift import drift, identity
from confcom.addon.release.field_managers import handover_patch
from confcom.addon.release.revision_history import Revision
from confcom.addon.release.running_change import RunningChangeError, busy, running_change
from confcom.addon.rollout.hook_job import HookWatch
from confcom.addon.rollout.progress import Mark, ProgressReporter, ProgressTable, Row
from confcom.addon.rollout.rollout import NodeStep, ProgressTracker, Verdict, evaluate, rollout
from confcom.addon.rollout.rollout_report import rows_of, stalled
from confcom.kubernetes.objects import KubernetesObject, name_of

T = TypeVar("T")

POLL_SECONDS = 1.5
"""Interval between two polls of the cluster. A poll runs kubectl twice, at a tenth of a second of CPU each."""

HISTORY_SECONDS = 3.0
"""Timeout for reading helm's history after an interruption: a lookup takes a fifth of a second."""

OVERWRITE = ("--server-side=true", "--force-conflicts")
"""Flags with which helm sets fields of its manifests that another manager wrote. Without them it reports a conflict
and continues with the other objects: the change is incomplete."""


@dataclass(frozen=True, slots=True)
class AddOn:
    """The add-on of one cluster."""

    cluster: Cluster
    run: Run
    reporter: ProgressReporter
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

    def preflight(self, request: InstallRequest) -> tuple[PreflightContext, tuple[Finding, ...]]:
        """Check everything that could make the change fail, and report the findings.

        Raises:
            PreflightError: a check failed.
            RunningChangeError: another change is in progress.
        """
        with self.reporter.busy("Checking the cluster"):
            seen = survey(self.helm, self.api, request, self.now)
        findings = judge(seen.surroundings)
        self.reporter.findings(findings)
        if isinstance(seen.surroundings.plan, RunningChangeError):
            raise seen.surroundings.plan
        if failed(findings):
            raise PreflightError(findings)
        return seen, findings

    def apply(self, chart: Path, seen: PreflightContext) -> None:
        """Install or upgrade the release.

        Raises:
            ClusterAccessError: an object cannot be read or patched.
            HelmError: helm failed.
            RunningChangeError: another change is in progress.
        """
        self.journal.before = seen.history[-1].number if seen.history else 0
        title = "helm installs the chart"
        force: Sequence[str] = ()
        if seen.history:
            title = "helm upgrades the release"
            self._take_over(seen.rendering.manifests if seen.rendering else ())
            force = OVERWRITE
        self.run_watched(title, lambda helm: helm.upgrade(chart, seen.values, force), stoppable=True)

    def restore_revision(self, revision: int, title: str, *, last: int) -> None:
        """Restore a revision of the release. Restoring the current revision undoes drift."""
        self.journal.before, self.journal.restores = last, True
        self._take_over(self.helm.installed(revision))
        self.run_watched(title, lambda helm: helm.rollback(revision, OVERWRITE), stoppable=False)

    def _take_over(self, manifests: Sequence[KubernetesObject]) -> None:
        """Make helm the manager of fields that others added: its next apply then removes them.

        The content of the objects stays. Without this, the apply keeps such fields; removal by a second change would
        replace the pods twice.
        """
        here = self.cluster.namespace
        with contextlib.suppress(ForbiddenError):  # helm accesses each object too, and reports what is forbidden
            live = {identity(one, here): one for one in read_live(self.api, manifests).objects}
            for wanted in manifests:
                one = live.get(identity(wanted, here))
                if one is not None:
                    added = [path for each in drift([wanted], [one], here) for path in each.added]
                    if patch := handover_patch(one, added):
                        self.api.patch(one, patch)

    def run_watched(self, title: str, change: Callable[[Helm], None], *, stoppable: bool) -> None:
        """Run a change by helm, and watch the Job that helm waits for. A Job that cannot start is ended early.

        Args:
            title: the progress title.
            change: runs helm.
            stoppable: whether this helm command records its failure when it gets a SIGINT.

        Raises:
            HelmError: helm failed; the error includes why the Job's pods failed.
            RunningChangeError: another change is in progress.
        """
        hook = HookWatch()
        with self.reporter.waiting(title) as table:

            def look() -> None:
                nonlocal hook
                with contextlib.suppress(ClusterAccessError):  # helm itself fails if the API server stays unreachable
                    seen = self.api.list_objects("pods,jobs.batch,events", self.cluster.namespace_flag)
                    hook = hook.after(seen, self.clock())
                    table.show(hook.rows)
                    for job in hook.stuck_jobs(self.clock()):
                        self.api.end_job(job)
                self.sleep(POLL_SECONDS)

            try:
                self.run_helm(change, Watch(look, stoppable))
            except BusyError as error:
                raise busy(self.helm.history(), self.now(), made=self.journal.changes_without_helm) from error
            except HelmError as error:
                made = self.journal.changes_without_helm
                before = [f"done without helm: {made}"] if made else []
                error.why = "; ".join([*hook.failure_reasons, error.why, *before])
                raise
        # Helm has removed its own Job. Jobs of failed or interrupted changes are left, and `status` would report them.
        with contextlib.suppress(ClusterAccessError):  # the change is made; the next change cleans up too
            if running_change(self.helm.history(), self.now()):
                return  # a running change still needs its Job
            jobs = self.api.list_objects("jobs", self.cluster.namespace_flag)
            if left := [name_of(job) for job in jobs if is_hook(job)]:
                self.api.delete("Job.batch", left, namespace=self.cluster.namespace)

    def run_helm(self, change: Callable[[Helm], None], watch: Watch) -> None:
        """Run helm in a session of its own: after an interruption, helm's record of the release is still correct.

        Raises:
            HelmError: helm failed.
            KeyboardInterrupt: the user interrupted; helm may go on.
        """
        self.journal.phase, self.journal.helm_goes_on = Phase.HELM, True
        try:
            change(Helm(self.cluster, functools.partial(self.run, watch=watch)))
        finally:
            self.journal.helm_goes_on = watch.running
        self.journal.phase = Phase.MADE

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Convert a KeyboardInterrupt to the error that says what was changed.

        Raises:
            ChangeInterruptedError: on Ctrl-C, and on SIGTERM where it is handled as Ctrl-C.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            raise interrupted(self.journal, self._recorded()) from error

    def _recorded(self) -> Sequence[Revision] | None:
        """Return helm's history, empty if helm was not started; None if it cannot be read within HISTORY_SECONDS."""
        if self.journal.phase is Phase.BEFORE:
            return ()
        try:
            return Helm(self.cluster, self.run, HISTORY_SECONDS).history()
        except (ClusterAccessError, KeyboardInterrupt):  # a second interruption means: do not wait
            return None

    def revision(self, *, deadline: float) -> int:
        """Return the release's revision number after a change, or 0; retries like `wait`.

        Raises:
            ClusterAccessError: the API server was unreachable until the deadline, or refuses.
        """
        history: Sequence[Revision] = self.retry_while_unreachable(self.helm.history, deadline=deadline)
        return history[-1].number if history else 0

    def retry_while_unreachable(
        self, ask: Callable[[], T], *, deadline: float, table: ProgressTable | None = None
    ) -> T:
        """Query the cluster, and retry while its API server is unreachable: the change itself has already been made.

        Args:
            ask: the query; each retry repeats all of it.
            deadline: seconds after which the failure is final.
            table: shows that the API server is unreachable; None: the reporter says it once.

        Raises:
            ForbiddenError: the API server refuses.
            ClusterAccessError: the API server was unreachable until the deadline.
        """
        asked, away = self.clock(), False
        while True:
            try:
                return ask()
            except ClusterAccessError as error:
                # An API server that has just started refuses every request until it has loaded its RBAC rules.
                if (isinstance(error, ForbiddenError) and not away) or self.clock() - asked >= deadline:
                    raise
                if table is not None:
                    table.show([Row("API server", error.why or error.what, Mark.BAD)])
                elif not away:
                    self.reporter.say(f"Waiting for the API server: {error.why or error.what}")
                away = True
            self.sleep(POLL_SECONDS)

    def wait(self, title: str, *, deadline: float, remedy: str) -> tuple[NodeStep, ...]:
        """Wait until every daemon is ready on every node; fail when there is no progress.

        Raises:
            NotReadyError: the rollout stalled; the error says where and why.
            ClusterAccessError: the API server was unreachable until the deadline, or refuses.
        """
        tracker: ProgressTracker | None = None
        with self.reporter.waiting(title) as table:
            while True:
                seen = self.retry_while_unreachable(
                    lambda: fetch_daemon_snapshot(self.api), deadline=deadline, table=table
                )
                state = rollout(seen)
                tracker, verdict = evaluate(tracker, state, self.clock(), deadline=deadline)
                table.show(rows_of(state))
                if verdict is Verdict.DONE:
                    return state.steps
                if verdict is Verdict.STALLED:
                    raise stalled(state, remedy)
                self.sleep(POLL_SECONDS)
