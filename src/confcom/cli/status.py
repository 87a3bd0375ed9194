"""`confcom status`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from confcom.cli.add_on_options import add_on, cluster_options, errors_as_json, show_result
from confcom.errors import ExitCode, printable

if TYPE_CHECKING:
    from confcom.addon.daemon_pods import DaemonPod
    from confcom.addon.node_status import NodeStatus
    from confcom.addon.status import AddOnStatus

_HEADER = ("NODE", "SGX", "EPC MiB", "USED", "DEVICE PLUGIN", "QUOTE HELPER", "PROVISION")


@click.command()
@cluster_options
@errors_as_json
def status(*, namespace: str, context: str, output: str) -> None:
    """Show the add-on node by node: EPC, both daemons, and what is wrong.

    PROVISION says whether the quote helper got the provision device. Workloads that the add-on kept from running are
    listed with the cause. What is in the cluster is compared with what helm keeps of the installation, also what
    somebody edited by hand. It reads nodes, Pods, DaemonSets, Jobs and events; if it may, the admission policy, which
    simulated root is published, helm's record and the objects in it. It reads no other Secret than that record. Quote
    helpers that are older than the root are asked for their metrics.

    \b
    Examples:
      confcom status
      confcom status -o json | jq .ok
      until confcom status >/dev/null; do sleep 5; done

    Exit codes: 0 all is well, 8 something is not (or the add-on is not enabled), 6 the API server does not answer.
    """
    from confcom.addon.installed_release import look_at_release
    from confcom.addon.looking import look_everywhere
    from confcom.addon.objects import namespace_of
    from confcom.addon.root_looking import look_at_root
    from confcom.addon.status import add_on_status

    it = add_on(namespace, context)
    seen = look_everywhere(it.api)
    here = [one for one in seen.daemon_sets if namespace_of(one) == seen.namespace]
    release, root = look_at_release(it.helm, it.api), look_at_root(it.api, here, seen.pods)
    found = add_on_status(dataclasses.replace(seen, release=release, root=root), datetime.now(UTC))
    show_result(found.to_json(), "\n".join(printable(line) for line in status_lines(found)), output)
    if not found.ok:
        click.get_current_context().exit(ExitCode.NOT_READY)


def status_lines(found: AddOnStatus) -> Iterator[str]:
    """For people."""
    if found.enabled:
        kind = "a SIMULATED platform: its quotes prove nothing about hardware" if found.simulated else "SGX hardware"
        yield f"confcom {found.version} in {found.namespace}, on {kind}"
        if found.updating:
            yield "An update is in progress."
    if found.nodes:
        yield ""
        yield from _table([_HEADER, *(_row(node) for node in found.nodes)])
    if found.other_nodes and found.enabled:
        yield f"{found.other_nodes} more without SGX"
    if found.problems:
        yield ""
        yield "Wrong:"
        yield from (f"  {problem}" for problem in found.problems)
    if found.doubts:
        yield ""
        yield "Not compared:"
        yield from (f"  {doubt}" for doubt in found.doubts)
    if found.workloads:
        yield ""
        yield "Workloads that need help:"
        for one in found.workloads:
            yield f"  {one.kind} {one.namespace}/{one.name} is {one.trouble}: {one.cause}"
            yield f"    do: {one.remedy}"
    if found.ok:
        yield ""
        yield "All is well."


def _row(node: NodeStatus) -> tuple[str, ...]:
    epc = node.epc
    amount = str(epc.allocatable) if epc.allocatable == epc.capacity else f"{epc.allocatable} of {epc.capacity}"
    sgx = node.sgx if node.ready else f"{node.sgx}, not Ready"
    return (
        node.name,
        sgx,
        amount,
        str(epc.used),
        _daemons(node.plugins),
        _daemons(node.helpers),
        node.provision,
    )


def _daemons(pods: Sequence[DaemonPod]) -> str:
    """Alike ones are counted: of those that a kubelet rejected, Kubernetes may leave dozens for minutes."""
    alike = Counter(f"{pod.state} {pod.version}" for pod in pods)
    return ", ".join(one if count == 1 else f"{one} ({count})" for one, count in alike.items()) or "none"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
