"""The command `confcom status`."""

from pathlib import Path

import click

from confcom.cli.add_on_options import cluster_options, opened, timeout_option
from confcom.cli.output_option import show_result
from confcom.cli.parameter_types import NamedPath
from confcom.errors import ExitCode, printable, writing
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@click.option("--wait", is_flag=True, help="Wait until every node is ready and shows its EPC, then show the state.")
@timeout_option
@click.option("--html", type=NamedPath(dir_okay=False), help="Also write the state as one HTML page into this file.")
@cluster_options
def status(*, wait: bool, timeout: int, html: Path | None, namespace: str, login: Login, output: str) -> None:
    """Show the add-on's state on each node, its problems, and the workloads with EPC.

    In a large cluster, the output has one line for all healthy nodes, and reports similar problems once, with the
    number of nodes. `--output json` always has everything.

    The workloads include those whose Pods the API server refused (due to the add-on's policies or a quota), and those
    whose Pods a kubelet rejected. For a pending Pod, the scheduler's message is shown. If objects in the cluster differ
    from helm's record of the release, for example after manual edits, the differences are problems.

    The command reads the nodes and the add-on's namespace. If the user has the permission, it also reads all Pods, the
    events about Pods that cannot be created, and helm's record, and compares this record with the cluster. The output
    names what could not be read. The only Secrets that are read are helm's record and the simulated root. The command
    asks up to 20 device plugins for their EPC, and up to 20 quote helpers and the server of collateral for their root,
    which must be the Secret's root. Objects with the add-on's labels that helm did not record are problems.

    `--html` is for those who have no Prometheus, and for a ticket. The page has every node, and loads nothing from
    elsewhere. The page contains names of nodes, namespaces and workloads.

    \b
    Examples:
      confcom status
      confcom status --html status.html
      confcom status --wait
      confcom status -o json | jq .ok
      confcom status -o json | jq '.problem_groups[] | {problem, count}'

    \b
    Exit codes:
      0    the add-on has no problem
      6    the API server does not answer
      8    the add-on has a problem, is being updated, or is not enabled
    """
    from confcom.addon.readiness import NOT_CREATED, NOT_SHOWN, wait_until_ready
    from confcom.addon.snapshot import read_cluster, read_quote_counts
    from confcom.addon.status import add_on_status
    from confcom.cli.status_page import status_page
    from confcom.cli.status_table import status_lines

    with opened(login, namespace) as add_on:
        if wait:
            wait_until_ready(add_on, timeout=timeout, until_gone=NOT_CREATED | NOT_SHOWN)
        found = add_on_status(read_cluster(add_on.helm, add_on.now))
        if html:
            helpers = [pod for node in found.nodes for pod in node.helpers]
            page = status_page(found, add_on.now(), read_quote_counts(add_on.cluster, helpers))
            with writing(f"{html} cannot be written", error_code="page-not-written"):
                html.write_text("\n".join(page), encoding="utf-8")
    lines = map(printable, status_lines(found))
    show_result({"cluster": add_on.cluster.to_json(), **found.to_json()}, lines, output)
    if not found.ok:
        click.get_current_context().exit(ExitCode.NOT_READY)
