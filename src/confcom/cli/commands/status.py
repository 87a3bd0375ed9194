"""The command `confcom status`."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import click

from confcom.cli.add_on_options import add_on, cluster_options, show_result
from confcom.errors import ExitCode, printable


@click.command()
@cluster_options
@click.option(
    "--all-nodes",
    is_flag=True,
    help="A row for each node, and each problem by itself, however many there are.",
)
def status(*, namespace: str, context: str, output: str, all_nodes: bool) -> None:
    """Show the add-on node by node: EPC, both daemons, and what is wrong.

    Of many nodes, those that are well are summed up, and problems that are alike are told once, with how many nodes
    have them. `--output json` has everything, however many nodes there are.

    PROVISION says whether the quote helper got the provision device. Workloads that the add-on kept from running, or
    whose Pods its admission policy refuses, are listed with the cause. What is in the cluster is compared with what
    helm keeps of the installation, also what somebody edited by hand. It reads nodes, Pods, DaemonSets, Jobs and the
    events of the add-on's namespace; if it may, events of all namespaces about Pods that cannot be created and their
    controllers, the admission policy, which simulated root is published, helm's record and the objects in it. It reads
    no other Secret than that record. Quote helpers that are older than the root are asked for their metrics.

    \b
    Examples:
      confcom status
      confcom status --all-nodes
      confcom status -o json | jq .ok
      confcom status -o json | jq '.problem_groups[] | {problem, count}'
      until confcom status >/dev/null; do sleep 5; done

    Exit codes: 0 all is well, 8 something is not (or the add-on is not enabled), 6 the API server does not answer.
    """
    from confcom.addon.cluster.installed_release import look_at_release
    from confcom.addon.cluster.snapshot_reader import fetch_cluster_snapshot, look_at_refusals, look_at_root
    from confcom.addon.status.status import add_on_status, admission_policies
    from confcom.cli.status_lines import status_lines
    from confcom.kubernetes.objects import namespace_of

    addon = add_on(namespace, context)
    seen = fetch_cluster_snapshot(addon.api)
    daemon_sets = [one for one in seen.daemon_sets if namespace_of(one) == seen.namespace]
    seen = dataclasses.replace(
        seen,
        release=look_at_release(addon.helm, addon.api),
        root=look_at_root(addon.api, daemon_sets, seen.pods),
        refusals=look_at_refusals(addon.api, admission_policies(daemon_sets)) if daemon_sets else None,
    )
    found = add_on_status(seen, datetime.now(UTC))
    lines = status_lines(found, everything=all_nodes)
    show_result(found.to_json(), "\n".join(printable(line) for line in lines), output)
    if not found.ok:
        click.get_current_context().exit(ExitCode.NOT_READY)
