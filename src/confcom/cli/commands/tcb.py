"""The command `confcom tcb`."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from confcom.cli import add_on_options as options
from confcom.cli.commands.collateral import source_of
from confcom.cli.commands.verify import INTEL
from confcom.cli.output_option import show_result
from confcom.cli.parameter_types import INPUT, instant
from confcom.kubernetes.kubectl_flags import Login


@click.command()
@click.argument("quotes", nargs=-1, type=INPUT, metavar="[QUOTE]...")
@click.option("--from", "service", metavar="intel|azure|URL", help="The service of collateral.  [default: intel]")
@click.option("--ca", "ca_file", type=INPUT, metavar="FILE", help="Authorities that may certify the service, PEM.")
@click.option("--collateral", type=INPUT, multiple=True, metavar="DIR|FILE", help="Sets to read; may be repeated.")
@click.option("--root", metavar="FILE|intel", default=INTEL, show_default=True, help="The root to trust, PEM or DER.")
@click.option("--early", is_flag=True, help="Fail too if a machine is not UpToDate by the early set.")
@click.option(
    "--fail-within",
    type=click.IntRange(0),
    metavar="DAYS",
    default=0,
    help="Fail too if collateral or a PCK certificate ends within this time.",
)
@click.option("--at", type=instant, metavar="TIME", help="Judge as of this time; UTC without an offset.")
@options.cluster_options
@options.interrupted_by_signals
def tcb(
    *,
    quotes: tuple[Path, ...],
    service: str | None,
    ca_file: Path | None,
    collateral: tuple[Path, ...],
    root: str,
    early: bool,
    fail_within: int,
    at: datetime | None,
    namespace: str,
    login: Login,
    output: str,
) -> None:
    """Show which nodes, or which machines of quotes, are UpToDate, and what raises each SVN that is short.

    Without QUOTE, the command asks the quote helper of each node of the cluster. Each QUOTE (SGX or TDX; binary, hex or
    base64) needs no cluster. Nodes with equal SVNs are shown as one group, with their status by the standard set of
    collateral, and by the early set, which becomes the standard set later.

    Simulated nodes are judged by the release's own root and value simulated.staging, unless --root is a simulated root.

    \b
    Examples:
      confcom tcb
      confcom tcb --early --fail-within 7
      confcom tcb --from https://pccs.example:8081 --ca ca.pem -o json
      confcom tcb q.bin td.bin --collateral platform_collaterals.json

    \b
    Exit codes:
      4    a quote is not authentic
      5    a quote or the collateral cannot be used, for example because it is forged or has expired
      6    the cluster or the service of collateral does not answer
      8    a machine is not UpToDate, or its SVNs are not known; or something ends within --fail-within
      If several apply, the lowest. 0, 2 and 130 as for status.
    """
    from confcom.tcb.runner import Request, given_trust, judge_cluster, judge_quotes

    if (service or ca_file) and collateral:
        raise click.UsageError("Give --from (with --ca) or --collateral, one of the two.")
    if root != INTEL and not (service or collateral):
        raise click.UsageError("--root FILE needs --from or --collateral.")
    trust = given_trust(root, collateral or source_of(service or INTEL, ca_file, None))
    request = Request(trust, at or options.present(), early, timedelta(days=fail_within))
    if quotes:
        report, cluster = judge_quotes(quotes, request, lambda line: click.echo(line, err=True)), {}
    else:
        with options.opened(login, namespace) as add_on:
            report, cluster = judge_cluster(add_on, request), {"cluster": add_on.cluster.to_json()}
    show_result({**report.to_json(), **cluster}, report.lines(), output)
    click.get_current_context().exit(report.exit_code)
