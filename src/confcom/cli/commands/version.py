"""The command `confcom version`."""

import click

from confcom.cli.add_on_options import cluster_options, opened
from confcom.cli.output_option import show_result
from confcom.errors import printable
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@cluster_options
def version(*, namespace: str, login: Login, output: str) -> None:
    """Print the versions of this program, of the chart in the cluster, and of the add-on's daemons.

    For each daemon, the command prints how many Pods run which version: the tag of their image, or the start of its
    digest. The versions differ if the Pods of a daemon have several versions, or if the cluster's chart has another
    version than this program, whose own chart has the program's version.

    \b
    Examples:
      confcom version
      confcom version -o json | jq .differ

    \b
    Exit codes:
      0    the versions are printed, even if they differ
      6    the API server does not answer
    """
    from confcom.sysdump.versions import add_on_versions

    with opened(login, namespace) as add_on:
        found = add_on_versions(add_on.cluster)
    charts = ", ".join(found.charts) or "none: the add-on is not enabled"
    lines = [f"confcom {found.program}", f"chart in {namespace}: {charts}"]
    for kind, counts in found.daemons.items():
        lines.append(f"{kind.words}: {', '.join(f'{name} ({count})' for name, count in counts.items())}")
    lines.append("The versions differ." if found.differ else "The versions do not differ.")
    show_result({"cluster": add_on.cluster.to_json(), **found.to_json()}, map(printable, lines), output)
