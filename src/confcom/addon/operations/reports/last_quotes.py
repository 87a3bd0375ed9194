"""The last quotes of nodes, asked of their quote helpers, for the nodes' hardware reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures

from confcom.addon.cluster.kubectl import ASKED_AT_ONCE, PROBES_PORT, KubeApi
from confcom.addon.cluster.programs import ClusterAccessError, ForbiddenError
from confcom.addon.daemons.hardware_helpers import hardware_helpers
from confcom.addon.daemons.node_reports import ReportFinding
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of, node_of, owner_of, text

FindReport = Callable[[str], KubernetesObject | None]
"""Returns the report in a log or a page; None if there is none."""
_GET_ONE = "get a quote in a Pod of this node (docs/how-to/get-a-quote.md), and make the report again"
_NOT_FOUND = "NotFound"
"""kubectl's name of the answer 404: no quote yet, or a helper that is older than the page."""


def last_quotes(
    api: KubeApi, nodes: Sequence[str], daemons: Sequence[KubernetesObject], find_report: FindReport
) -> Mapping[str, KubernetesObject | ReportFinding]:
    """Return for each node a report that has the section of a quote alone, or why there is none.

    Args:
        api: the cluster.
        nodes: the nodes' names.
        daemons: the DaemonSets of the add-on's namespace.
        find_report: returns the report in a page.
    """
    if not nodes:
        return {}
    owners = {one.daemon_set for one in hardware_helpers(daemons)}
    try:
        seen = api.list_objects("pods", api.cluster.namespace_flag)
    except ClusterAccessError as error:
        return dict.fromkeys(nodes, _unread(error))
    pods = sorted(
        (one for one in seen if text(owner_of(one), "name") in owners),
        key=lambda one: text(one, "metadata", "creationTimestamp"),
    )
    newest = {node_of(one): name_of(one) for one in pods}
    with futures.ThreadPoolExecutor(max_workers=ASKED_AT_ONCE) as pool:
        return dict(zip(nodes, pool.map(lambda node: _ask(api, newest.get(node), find_report), nodes), strict=True))


def with_quote(report: KubernetesObject, quote: KubernetesObject) -> KubernetesObject:
    """Return a node's report with the section of a quote, and what was found about that."""
    section = mapping(quote, "sections", "quote")
    found = [one for one in quote["findings"] if one["section"] == "quote"]
    return {
        **report,
        "sections": {**report["sections"], "quote": section},
        "findings": [*report["findings"], *found],
    }


def _ask(api: KubeApi, pod: str | None, find_report: FindReport) -> KubernetesObject | ReportFinding:
    if pod is None:
        return ReportFinding(
            "the report has no quote: no quote helper with Intel's aesmd or DCAP libraries is on the node",
            "enable one (docs/how-to/on-premises.md), and get a quote; or run `confcom hardware-report --quote FILE` "
            "on the node",
            code="report-quote-no-helper",
        )
    try:
        report = find_report(api.pod_last_quote(pod, PROBES_PORT))
    except ClusterAccessError as error:
        if _NOT_FOUND not in error.why:
            return _unread(error)
        return ReportFinding(
            "the report has no quote: the node's quote helper has got none for a client since its start",
            f"{_GET_ONE}; a quote helper that is older than this command has to be updated first",
            code="report-quote-none",
        )
    if report is None or not mapping(report, "sections", "quote"):
        return ReportFinding(
            "the report has no quote: what the node's quote helper tells of its last one is not understood",
            "use the version of confcom that the add-on has",
            code="report-quote-not-readable",
        )
    return report


def _unread(error: ClusterAccessError) -> ReportFinding:
    needed = "this needs the permission to list Pods and to get pods/proxy"
    return ReportFinding(
        f"the report has no quote: the page of the node's quote helper cannot be read ({error.error_code})",
        needed if isinstance(error, ForbiddenError) else "make the report again; `confcom status` tells of the helper",
        code="report-quote-unread",
    )
