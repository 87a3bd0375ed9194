"""The command `confcom hardware-report`."""

import os
from pathlib import Path

import click

from confcom.cli.output_option import output_option, show_result
from confcom.cli.parameter_types import NamedPath


@click.command()
@click.option(
    "--socket",
    "socket_path",
    type=NamedPath(),
    metavar="PATH",
    help="The AESM socket. Default: CONFCOM_AESM_SOCKET, else /var/run/aesmd/aesm.socket; with --host-root, "
    "run/aesmd/aesm.socket below it.",
)
@click.option(
    "--host-root", type=NamedPath(), default=Path("/"), show_default=True, help="The node's root, mounted somewhere."
)
@output_option
def hardware_report(*, socket_path: Path | None, host_root: Path, output: str) -> None:
    """Report the facts about this node's SGX hardware and software, to send to the authors of confcom.

    confcom has never run on SGX hardware. If you have such hardware, run this command on a node, read the report, and
    send it. It changes nothing, gets no quote, and sends nothing itself. Identifiers of the machine, passwords, and
    users and parameters in URLs are left out; host names in URLs of Intel's configuration files are shown.

    \b
    Examples:
      confcom hardware-report
      confcom hardware-report -o json > report.json
    """
    from confcom.hardware_report.report import local_report, text_lines

    report = local_report(os.environ, host_root=host_root, socket=socket_path)
    show_result(report, text_lines(report), output)
