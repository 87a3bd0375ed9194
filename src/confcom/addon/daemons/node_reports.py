"""Hardware reports of a cluster: of which nodes, by which image, and what is told if there is none. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from confcom.addon.daemons.report_job import ReportImage
from confcom.addon.model.chart_objects import Component, Plan, component_of, pod_spec_of, simulates
from confcom.addon.model.node_selection import selects
from confcom.addon.model.problems import shown
from confcom.addon.model.sgx_nodes import SgxKind, sgx_kind
from confcom.kubernetes.objects import KubernetesObject, listing, name_of, text

FORMAT = "confcom-hardware-report-cluster/1"
MAX_NODES = 20
"""Reports of one run, each a Job and a page of text. Nodes of one pool are alike."""


@dataclass(frozen=True, slots=True)
class ReportFinding:
    """Why a report is missing, and what to do."""

    what: str
    do: str = ""
    code: str = field(kw_only=True)
    """Names the cause, for programs."""

    def to_json(self) -> dict[str, str]:
        """Return the object for `--output json`."""
        return {"code": self.code, "what": self.what, "do": self.do}

    def without(self, node: str, number: int) -> ReportFinding:
        """Return it without the node's name, which identifies a machine."""
        name = re.compile(rf"(?<![\w.-]){re.escape(node)}(?![\w-]|\.\w)")
        what, do = (name.sub(f"NODE-{number}", one) for one in (self.what, self.do))
        return replace(self, what=what, do=do)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The report of one node, or why there is none."""

    report: KubernetesObject | None
    findings: tuple[ReportFinding, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """The reports of the nodes, in the order of their names, which are left out."""

    nodes: tuple[NodeReport, ...] = ()
    findings: tuple[ReportFinding, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        return {
            "format": FORMAT,
            "nodes": [
                {"node": number, "report": one.report, "findings": [finding.to_json() for finding in one.findings]}
                for number, one in enumerate(self.nodes, 1)
            ],
            "findings": [one.to_json() for one in self.findings],
        }


def nodes_to_report(
    nodes: Sequence[KubernetesObject], daemons: Sequence[KubernetesObject], named: Sequence[str]
) -> tuple[tuple[str, ...], tuple[ReportFinding, ...]]:
    """Return the names of the nodes that get a report, and findings about nodes that do not.

    Args:
        nodes: all nodes of the cluster.
        daemons: the DaemonSets of the add-on's namespace.
        named: the nodes that the user named; empty: those with SGX hardware.
    """
    known = sorted(map(name_of, nodes))
    if named:
        unknown = [one for one in dict.fromkeys(named) if one not in known]
        return tuple(one for one in known if one in named), tuple(_unknown_nodes(unknown))
    plugins = Plan(tuple(daemons)).plugins(simulated=False)
    found = sorted(
        name_of(node)
        for node in nodes
        if sgx_kind(node) is SgxKind.HARDWARE or any(selects(pod_spec_of(one), node) for one in plugins)
    )
    return tuple(found[:MAX_NODES]), tuple(_unreported(len(found)))


def _unknown_nodes(names: Sequence[str]) -> Iterator[ReportFinding]:
    if names:
        yield ReportFinding(
            f"the cluster has no node {shown(names)}",
            "kubectl get nodes shows their names",
            code="report-node-not-found",
        )


def _unreported(count: int) -> Iterator[ReportFinding]:
    if not count:
        yield ReportFinding(
            "no node has SGX hardware, as far as its labels and the add-on's device plugin say",
            "name nodes by --node",
            code="report-no-sgx-nodes",
        )
    if count > MAX_NODES:
        yield ReportFinding(
            f"only {MAX_NODES} of {count} nodes with SGX hardware are in this report",
            "name others by --node",
            code="report-nodes-left-out",
        )


def report_image(daemons: Sequence[KubernetesObject], named: str) -> ReportImage | None:
    """Return the image that the user named, else that of an installed daemon; None if there is none.

    Every image of confcom has what a report needs. The helper's of hardware nodes comes first.
    """

    def rank(daemon: KubernetesObject) -> tuple[bool, bool]:
        return component_of(daemon) is not Component.QUOTE_HELPER, simulates(daemon)

    ours = sorted((one for one in daemons if component_of(one)), key=rank)
    images = (text(one, "image") for daemon in ours for one in listing(pod_spec_of(daemon), "containers")[:1])
    image = named or next(filter(None, images), "")
    if not image:
        return None
    secrets = (tuple(found) for one in ours if (found := listing(pod_spec_of(one), "imagePullSecrets")))
    return ReportImage(image, next(secrets, ()))


def image_unknown(namespace: str) -> ReportFinding:
    """Return the finding that there is no image to run."""
    return ReportFinding(
        f"the add-on is not enabled in {namespace}, so that no image with confcom is known",
        "name one by --image, or the add-on's namespace by --namespace",
        code="report-image-unknown",
    )
