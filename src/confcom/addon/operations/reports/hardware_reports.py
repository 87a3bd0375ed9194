"""Hardware reports of a cluster's nodes: a Job on each, whose log is the report. What is missing is a finding."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from confcom.addon.cluster.installed_release import told
from confcom.addon.cluster.programs import ClusterAccessError, ForbiddenError
from confcom.addon.daemons.node_reports import (
    ClusterReport,
    NodeReport,
    ReportFinding,
    image_unknown,
    nodes_to_report,
    report_image,
)
from confcom.addon.daemons.report_job import (
    PREFIX,
    JobProgress,
    JobState,
    ReportImage,
    progress_of,
    report_job,
    running_seconds,
)
from confcom.addon.operations.apply.add_on import POLL_SECONDS, AddOn
from confcom.addon.operations.reports.last_quotes import FindReport, last_quotes, with_quote
from confcom.addon.rollout.progress import Mark, Row
from confcom.addon.rollout.rollout import STUCK_SECONDS, nodes_away
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.objects import KubernetesObject

START_SECONDS = 120
"""Until a pod has started, with the pull of its image."""
LOG_LINES = 100
"""How much of a pod's log is read: the report is its last line, unless something complains at its end."""
LOG_READS = 3
"""How often a log is read: a kubelet may be away for a moment."""
_MARKS = {JobState.DONE: Mark.DONE, JobState.WAITING: Mark.WAITING}


class ReportsInterruptedError(ConfcomError):
    """The user interrupted; the Jobs were removed as far as that was possible."""

    error_code = "reports-interrupted"
    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What the user asked for.

    Args:
        nodes: names of nodes; empty: those with SGX hardware.
        image: an image with confcom in it; empty: that of the installed quote helper, else of the device plugin.
        call_seconds: the time limit of one call of the AESM service.
    """

    nodes: tuple[str, ...] = ()
    image: str = ""
    call_seconds: float = 15.0


@dataclass(slots=True)
class _Run:
    """The Job of one node, and what is known of it."""

    node: str
    job: str
    finding: ReportFinding | None = None
    report: KubernetesObject | None = None
    failing_since: float | None = None
    progress: JobProgress | None = None
    log_reads: int = 0

    @property
    def over(self) -> bool:
        return self.finding is not None or self.report is not None

    @property
    def row(self) -> Row:
        if self.finding is not None:
            return Row(self.node, self.finding.what, Mark.BAD)
        if self.report is not None:
            return Row(self.node, "reported", Mark.DONE)
        if self.progress is None:
            return Row(self.node, "waiting", Mark.WAITING)
        return Row(self.node, self.progress.reason or "running", _MARKS.get(self.progress.state, Mark.BAD))

    @property
    def reason(self) -> str:
        return self.progress.reason if self.progress else "nothing was seen of it"


def report_cluster(add_on: AddOn, request: ReportRequest, find_report: FindReport) -> ClusterReport:
    """Make the reports, and remove the Jobs that made them.

    Args:
        add_on: the add-on of the cluster.
        request: what the user asked for.
        find_report: returns the report in a log; None if there is none.

    Raises:
        ClusterAccessError: nodes and daemons cannot be listed.
        ReportsInterruptedError: the user interrupted.
    """
    with add_on.reporter.busy("Looking at the nodes"):
        nodes = add_on.api.list_objects("nodes")
        daemons = add_on.api.list_objects("daemonsets.apps", add_on.cluster.namespace_flag)
    chosen, missing = nodes_to_report(nodes, daemons, request.nodes)
    findings = [*missing]
    image = report_image(daemons, request.image)
    if image is None:
        return ClusterReport((), (*findings, image_unknown(add_on.cluster.namespace)))
    mark = secrets.token_hex(4)  # two users may do this at once
    runs = [_Run(name, f"{PREFIX}-{mark}-{number}") for number, name in enumerate(chosen, 1)]
    for number, run in enumerate(runs, 1):
        add_on.reporter.say(f"Node {number} of the report is {run.node}.")
    away = nodes_away(nodes)
    for run in runs:
        if run.node in away:
            what, do = "the node is not Ready, so that nothing starts there", "kubectl describe node NAME"
            run.finding = ReportFinding(what, do, code="report-node-not-ready")
    try:
        _make_reports(add_on, runs, image, request.call_seconds, find_report)
    except KeyboardInterrupt as error:
        left = _remove(add_on, runs)
        raise ReportsInterruptedError(
            "interrupted while the reports were made",
            why=left.what if left else "the Jobs that make them were removed",
            remedy=left.do if left else "run the same command again",
        ) from error
    except BaseException:
        _remove(add_on, runs)
        raise
    if left := _remove(add_on, runs):
        findings.append(left)
    _add_quotes(add_on, runs, daemons, find_report)
    reports = (
        NodeReport(run.report, (run.finding.without(run.node, number),) if run.finding else ())
        for number, run in enumerate(runs, 1)
    )
    return ClusterReport(tuple(reports), tuple(findings))


def _add_quotes(
    add_on: AddOn, runs: Sequence[_Run], daemons: Sequence[KubernetesObject], find_report: FindReport
) -> None:
    with add_on.reporter.busy("Asking the quote helpers for their last quotes"):
        reported = [run.node for run in runs if run.report is not None]
        quotes = last_quotes(add_on.api, reported, daemons, find_report)
    for run in runs:
        quote = quotes.get(run.node)
        if isinstance(quote, ReportFinding):
            run.finding = quote
        elif quote is not None and run.report is not None:
            run.report = with_quote(run.report, quote)


def _make_reports(
    add_on: AddOn,
    runs: Sequence[_Run],
    image: ReportImage,
    call_seconds: float,
    find_report: FindReport,
) -> None:
    limit = START_SECONDS + running_seconds(call_seconds)
    with add_on.reporter.waiting("Making reports on the nodes") as table:
        for run in runs:
            table.show([one.row for one in runs])
            if not run.over:
                _create(add_on, run, image, call_seconds, limit)
        deadline = add_on.clock() + limit
        while open_runs := [one for one in runs if not one.over]:
            _look(add_on, open_runs, find_report)
            if add_on.clock() >= deadline:
                _give_up(runs, f"within {limit} s")
            table.show([one.row for one in runs])
            if any(not one.over for one in runs):
                add_on.sleep(POLL_SECONDS)
        table.show([one.row for one in runs])


def _look(add_on: AddOn, open_runs: Sequence[_Run], find_report: FindReport) -> None:
    try:
        seen = add_on.api.list_objects("pods,jobs.batch,events", add_on.cluster.namespace_flag)
    except ForbiddenError as error:
        for run in open_runs:
            run.finding = ReportFinding(
                f"the report's Pod cannot be followed: {told(error)}",
                "this needs the permission to list Pods, Jobs and events; or run `confcom hardware-report` on the node",
                code="report-pod-not-seen",
            )
        return
    except ClusterAccessError:  # it may be away for a moment
        return
    for run in open_runs:
        _follow(add_on, run, seen, find_report)


def _create(add_on: AddOn, run: _Run, image: ReportImage, call_seconds: float, limit: int) -> None:
    namespace = add_on.cluster.namespace
    job = report_job(run.job, run.node, image, namespace=namespace, call_seconds=call_seconds, limit=limit)
    try:
        add_on.api.create(job)
    except ClusterAccessError as error:
        run.finding = ReportFinding(
            f"the Job of the report cannot be created: {told(error)}",
            f"this needs the permission to create Jobs in {namespace}; or run `confcom hardware-report` on the node",
            code="report-job-refused",
        )


def _follow(add_on: AddOn, run: _Run, seen: Sequence[KubernetesObject], find_report: FindReport) -> None:
    run.progress = now = progress_of(run.job, seen)
    if now.state is JobState.DONE:
        run.report = find_report(add_on.api.log_tail(now.pod, LOG_LINES))
        run.log_reads += 1
        if run.report is None and run.log_reads == LOG_READS:
            run.finding = ReportFinding(
                "the report's Pod has ended well, and its log contains no report of a version that is known",
                "check the permission to get pods/log, or name an image of this version by --image",
                code="report-not-readable",
            )
    elif now.state is JobState.FAILED:
        run.finding = ReportFinding(
            f"the report's Pod has failed: {now.reason}",
            "if its image has no confcom.hardware_report, name a newer one by --image",
            code="report-pod-failed",
        )
    elif now.state is JobState.FAILING:
        run.failing_since = add_on.clock() if run.failing_since is None else run.failing_since
        if add_on.clock() - run.failing_since >= STUCK_SECONDS:
            _give_up([run], f"within {STUCK_SECONDS:g} s")
    else:
        run.failing_since = None


def _give_up(runs: Sequence[_Run], when: str) -> None:
    for run in runs:
        if not run.over:
            run.finding = ReportFinding(
                f"the report's Pod did not end {when}: {run.reason}",
                "remove the cause, or run `confcom hardware-report` on the node",
                code="report-pod-not-started",
            )


def _remove(add_on: AddOn, runs: Sequence[_Run]) -> ReportFinding | None:
    """Remove all Jobs, also those whose creation seemed to fail; return a finding if that is not possible."""
    names = [one.job for one in runs]
    if not names:
        return None
    try:
        add_on.api.delete("Job.batch", names, namespace=add_on.cluster.namespace)
    except (ClusterAccessError, KeyboardInterrupt) as error:
        why = told(error) if isinstance(error, ClusterAccessError) else "interrupted again"
        return ReportFinding(
            f"the Jobs of the reports were not removed: {why}",
            "they remove themselves ten minutes after their end; or: kubectl delete jobs "
            f"{add_on.cluster.namespace_flag} {' '.join(names)}",
            code="report-jobs-left",
        )
    return None
