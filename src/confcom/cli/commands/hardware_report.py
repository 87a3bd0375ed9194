"""The command `confcom hardware-report`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.output_option import JSON, output_option
from confcom.cli.path_type import NamedPath
from confcom.errors import ConfcomError, OutputError

if TYPE_CHECKING:
    from confcom.hardware_report.report import Section

HOST = Path("/")
STDOUT = Path("-")
SOCKET_BELOW_ROOT = "run/aesmd/aesm.socket"
"""Where /var/run is a link, it is an absolute one, which would lead out of --host-root."""


@click.command()
@click.option(
    "--quote",
    "quote_file",
    type=NamedPath(allow_dash=True, readable=False),
    metavar="FILE",
    help="Add the redacted anatomy of a quote that an enclave on this node got (a file, or - for standard input; "
    "binary, hex or base64).",
)
@click.option(
    "--out",
    type=NamedPath(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the report to FILE instead of stdout.",
)
@click.option(
    "--socket",
    "socket_path",
    type=NamedPath(),
    metavar="PATH",
    help="The AESM socket. Default: CONFCOM_AESM_SOCKET, else /var/run/aesmd/aesm.socket; with --host-root, "
    "run/aesmd/aesm.socket below it.",
)
@click.option(
    "--host-root",
    type=NamedPath(),
    default=HOST,
    show_default=True,
    metavar="DIR",
    help="The node's root file system, where the command runs in a container that has it mounted.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of each of the five calls of the AESM service; after the first without an answer, none is made.",
)
@output_option
def hardware_report(
    *,
    quote_file: Path | None,
    out: Path | None,
    socket_path: Path | None,
    host_root: Path,
    timeout: float,
    output: str,
) -> None:
    """Report the SGX hardware and software of this node, to send to the authors of confcom.

    confcom has never run on SGX hardware. If you have some, run this command on a node, read the report, and send it.
    It changes nothing, makes no quote, and sends nothing itself. What identifies a machine or opens something is left
    out: QE ID, PPID, platform instance id, serial numbers, keys, signatures, users and passwords in URLs. Host names
    in URLs of Intel's configuration files are shown.

    What is missing, or cannot be read, is a finding with a code and advice, and the exit code is 0 nevertheless.

    \b
    Examples:
      confcom hardware-report
      confcom hardware-report -o json --out report.json
      confcom hardware-report --quote q.bin
      confcom hardware-report --host-root /host
    """
    from confcom.client.address import aesm_socket_path
    from confcom.hardware_report.collect import Node, collect, query_rpm
    from confcom.hardware_report.devices import Caller
    from confcom.hardware_report.node_files import NodeFiles
    from confcom.hardware_report.text import report_lines

    default = aesm_socket_path(os.environ) if host_root == HOST else host_root / SOCKET_BELOW_ROOT
    node = Node(
        NodeFiles(host_root),
        socket_path or default,
        Caller(os.getuid(), frozenset({os.getgid(), *os.getgroups()})),
        query_rpm=query_rpm if host_root == HOST else None,
        call_seconds=timeout,
    )
    report = collect(node, None if quote_file is None else lambda: _quote(quote_file))
    text = json.dumps(report.to_json(), indent=2) if output == JSON else "\n".join(report_lines(report))
    if out is None or out == STDOUT:
        click.echo(text)
    else:
        _write(out, text + "\n")


def _quote(file: Path) -> Section:
    from datetime import UTC, datetime

    from confcom.hardware_report.report import Finding, Section

    try:
        from confcom.hardware_report.quote import quote_section
        from confcom.verify.files import intel_root, read_quote

        return quote_section(read_quote(file), intel_root(), datetime.now(UTC))
    except ConfcomError as error:  # unreadable, or the verifier is not installed
        what = f"{error.what}, because {error.why}" if error.why else error.what
        return Section("quote", {}, (Finding(code=error.error_code, what=what, do=error.remedy),))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"the report could not be written to {path}",
            error_code="report-not-writable",
            why=error.strerror or str(error),
            remedy="name a file in a directory that you may write to",
        ) from error
