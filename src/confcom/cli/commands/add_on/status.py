"""The command `confcom status`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from confcom.cli.add_on_options import add_on, cluster_options, show_result
from confcom.errors import ExitCode, printable


@click.command()
@cluster_options
@click.option(
    "--all-nodes",
    is_flag=True,
    help="Print a row for each node and a line for each problem, however many there are.",
)
def status(*, namespace: str, context: str, output: str, all_nodes: bool) -> None:
    """Show the add-on's state on each node: EPC, both daemons, and problems.

    In a large cluster, the output has one line for all healthy nodes, and reports similar problems once, with the
    number of nodes. `--output json` always has everything.

    The column PROVISION shows whether the quote helper has the provision device. The output lists workloads that the
    add-on keeps from running, or whose Pods its admission policy refuses, with the cause. It also reports differences
    between the objects in the cluster and helm's record of the release, such as manual edits.

    Of nodes with SGX hardware, it says what makes their quotes, and why it does not: the reason and its code are those
    that the quote helper logs, or tell how its container with Intel's aesmd ended.

    The command reads nodes, Pods, DaemonSets, Jobs and the events of the add-on's namespace. If the user has the
    permission, it also reads events of all namespaces about Pods that cannot be created and their controllers, the
    admission policy, the fingerprint of the published simulated root, and helm's record with the objects in it. It
    reads no other Secret than that record. It asks quote helpers that are older than the root for their metrics.

    \b
    Examples:
      confcom status
      confcom status --all-nodes
      confcom status -o json | jq .ok
      confcom status -o json | jq '.problem_groups[] | {problem, count}'
      until confcom status >/dev/null; do sleep 5; done

    \b
    Exit codes:
      0    the add-on has no problem
      6    the API server does not answer
      8    the add-on has a problem, is being updated, or is not enabled
    """
    from confcom.addon.cluster.status_reader import read_status
    from confcom.addon.status.status import add_on_status
    from confcom.cli.status_table import status_lines

    addon = add_on(namespace, context)
    seen = read_status(addon.helm, addon.api)
    found = add_on_status(seen, datetime.now(UTC))
    lines = status_lines(found, everything=all_nodes)
    show_result(found.to_json(), "\n".join(printable(line) for line in lines), output)
    if not found.ok:
        click.get_current_context().exit(ExitCode.NOT_READY)
