"""The command `confcom hardware-report`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.add_on_options import add_on, cluster_options
from confcom.cli.interruption import reports_interruption
from confcom.cli.output_option import JSON
from confcom.cli.path_type import NamedPath
from confcom.errors import ConfcomError, OutputError, printable

if TYPE_CHECKING:
    from confcom.addon.daemons.node_reports import ClusterReport, ReportFinding
    from confcom.hardware_report.collect import QuoteReader
    from confcom.hardware_report.document.report import Section

HOST = Path("/")
STDOUT = Path("-")
_OF_THIS_MACHINE = ("quote_file", "probe_address", "socket_path", "host_root")
_OF_A_CLUSTER = ("nodes", "image", "namespace", "context")


@click.command()
@click.option(
    "--cluster",
    is_flag=True,
    help="Report the nodes with SGX hardware of a cluster instead of this machine, each by a Job.",
)
@click.option("--node", "nodes", multiple=True, metavar="NODE", help="With --cluster: this node only; may be repeated.")
@click.option(
    "--image",
    metavar="IMAGE",
    default="",
    help="With --cluster: an image with confcom for the Jobs.  [default: that of the quote helper]",
)
@click.option(
    "--quote",
    "quote_file",
    type=NamedPath(allow_dash=True, readable=False),
    metavar="FILE",
    help="Add the redacted anatomy of a quote that an enclave on this node got (a file, or - for standard input; "
    "binary, hex or base64).",
)
@click.option(
    "--probe-address",
    metavar="ADDR",
    default="",
    help="Add the redacted anatomy of the last quote that this node's quote helper got for a client, asked of its "
    "probes (HOST:PORT or unix:PATH). It must relay to Intel's aesmd or DCAP libraries.",
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
@cluster_options
@reports_interruption
def hardware_report(
    *,
    cluster: bool,
    nodes: tuple[str, ...],
    image: str,
    quote_file: Path | None,
    probe_address: str,
    out: Path | None,
    socket_path: Path | None,
    host_root: Path,
    timeout: float,
    namespace: str,
    context: str,
    output: str,
) -> None:
    """Report the SGX hardware and software of this node, to send to the authors of confcom.

    confcom has never run on SGX hardware. If you have some, run this command on a node, read the report, and send it.
    It changes nothing, makes no quote, and sends nothing itself. What identifies a machine or opens something is left
    out: QE ID, PPID, platform instance id, serial numbers, keys, signatures, users and passwords in URLs. Host names
    in URLs of Intel's configuration files are shown.

    With --cluster, a Job on each node makes the report, from an image of the add-on and in its namespace. Its Pod has
    no privileges: a user of its own, the node's root file system read-only, no device. The Jobs are removed at the end.
    The report numbers the nodes, and stderr says which node has which number. The nodes' quote helpers are asked for
    the redacted anatomy of the last quote that a tenant got.

    What is missing, or cannot be read, is a finding with a code and advice, and the exit code is 0 nevertheless.

    \b
    Examples:
      confcom hardware-report
      confcom hardware-report -o json --out report.json
      confcom hardware-report --quote q.bin
      confcom hardware-report --probe-address 127.0.0.1:8080
      confcom hardware-report --host-root /host
      confcom hardware-report --cluster -o json --out report.json
      confcom hardware-report --cluster --node worker-1 --node worker-2

    \b
    Exit codes:
      0    the report is made, whatever it says
      1    it could not be written
      2    the command line is wrong
      6    with --cluster: the API server does not answer, or does not let this user list nodes and DaemonSets
      130  Ctrl-C or SIGTERM; the Jobs were removed, or the last lines say how to
    """
    _refuse_options(*(_OF_THIS_MACHINE if cluster else _OF_A_CLUSTER), cluster=cluster)
    if cluster:
        from confcom.addon.operations.reports.hardware_reports import ReportRequest, report_cluster
        from confcom.hardware_report.document.report_json import find_document

        addon = add_on(namespace, context)
        found = report_cluster(addon, ReportRequest(nodes, image, timeout), find_document)
        _print(found.to_json(), _cluster_lines(found), out, output)
    else:
        from confcom.hardware_report.document.text import report_lines
        from confcom.hardware_report.local import local_report

        report = local_report(
            os.environ,
            host_root=host_root,
            socket=socket_path,
            call_seconds=timeout,
            quote=_quote_reader(quote_file, probe_address),
        )
        _print(report.to_json(), report_lines(report), out, output)


def _refuse_options(*names: str, cluster: bool) -> None:
    context = click.get_current_context()
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(one.opts[-1] for one in context.command.params if one.name == name)
            raise click.UsageError(f"{option} means nothing {'with' if cluster else 'without'} --cluster")


def _cluster_lines(found: ClusterReport) -> Iterator[str]:
    from confcom.hardware_report.document.text import HEADER, document_lines

    yield HEADER
    for number, one in enumerate(found.nodes, 1):
        yield ""
        yield f"===== Node {number} of {len(found.nodes)}"
        if one.report is not None:
            yield from document_lines(one.report)
        yield from _finding_lines(one.findings)
    if found.findings:
        yield ""
        yield "Findings about the cluster:"
        yield from _finding_lines(found.findings)


def _finding_lines(findings: tuple[ReportFinding, ...]) -> Iterator[str]:
    for finding in findings:
        yield f"  {finding.code}: {printable(finding.what)}"
        if finding.do:
            yield f"    do: {printable(finding.do)}"


def _quote_reader(file: Path | None, probe_address: str) -> QuoteReader:
    from confcom.daemon.probes import ProbeAddress
    from confcom.hardware_report.last_quote import last_quote_section, no_quote_section

    if file is not None and probe_address:
        raise click.UsageError("--quote and --probe-address exclude each other")
    if file is not None:
        return lambda: _quote(file)
    if not probe_address:
        return no_quote_section
    try:
        address = ProbeAddress.parse(probe_address)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--probe-address") from error
    return lambda: last_quote_section(address)


def _quote(file: Path) -> Section:
    from datetime import UTC, datetime

    from confcom.hardware_report.document.report import Finding, Section

    try:
        from confcom.hardware_report.sections.quote import quote_section
        from confcom.verify.files import intel_root, read_quote

        return quote_section(read_quote(file), intel_root(), datetime.now(UTC))
    except ConfcomError as error:  # unreadable, or the verifier is not installed
        what = f"{error.what}, because {error.why}" if error.why else error.what
        return Section("quote", {}, (Finding(code=error.error_code, what=what, do=error.remedy),))


def _print(document: dict[str, object], lines: Iterator[str], out: Path | None, output: str) -> None:
    text = json.dumps(document, indent=2) if output == JSON else "\n".join(lines)
    if out is None or out == STDOUT:
        click.echo(text)
    else:
        _write(out, text + "\n")


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
