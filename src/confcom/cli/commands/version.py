"""The command `confcom version`."""

import click

import confcom
from confcom.cli.add_on_options import cluster_options, opened
from confcom.cli.output_option import show_result
from confcom.errors import printable
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@click.option("--client", is_flag=True, help="Print the version of this program only, and ask no cluster.")
@cluster_options
def version(*, client: bool, namespace: str, login: Login, output: str) -> None:
    """Print the versions of this program, of the chart in the cluster, and of the add-on's daemons.

    For each daemon, the command prints how many Pods run which version: the tag of their image, or the start of its
    digest. The versions differ if the Pods of a daemon have several versions, or if the cluster's chart has another
    version than this program, whose own chart has the program's version.

    \b
    Examples:
      confcom version
      confcom version --client
      confcom version -o json | jq .differ

    \b
    Exit codes:
      0    the versions are printed, even if they differ
      6    the API server does not answer
    """
    program = f"confcom {confcom.__version__}"
    if client:
        show_result({"program": confcom.__version__}, [program], output)
        return
    from confcom.sysdump.versions import add_on_versions

    with opened(login, namespace) as add_on:
        found = add_on_versions(add_on.cluster)
    lines = [program, f"chart in {namespace}: {', '.join(found.charts) or 'none: the add-on is not enabled'}"]
    for kind, counts in found.daemons.items():
        lines.append(f"{kind.words}: {', '.join(f'{name} ({count})' for name, count in counts.items())}")
    lines.append("The versions differ." if found.differ else "The versions do not differ.")
    show_result({"cluster": add_on.cluster.to_json(), **found.to_json()}, map(printable, lines), output)
