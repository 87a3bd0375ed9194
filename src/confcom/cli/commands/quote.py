"""The command `confcom quote`."""

import base64
import functools
import shlex
from pathlib import Path

import click

from confcom.cli.output_option import JSON, output_option, show_json
from confcom.cli.parameter_types import NamedPath, hexadecimal
from confcom.errors import printable, writing

STDOUT = Path("-")
"""The file name that conventionally means standard output."""


@click.command()
@click.option(
    "--report-data",
    type=hexadecimal,
    required=True,
    metavar="HEX",
    help="The quote's report data: a relying party's challenge, or a hash of a public key. 1 to 64 bytes; padded with "
    "zeros.",
)
@click.option(
    "--out",
    type=NamedPath(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the quote's bytes to FILE; with -, to stdout, and everything else to stderr.",
)
@click.option(
    "--socket",
    "socket_path",
    type=NamedPath(),
    metavar="PATH",
    help="The AESM socket. Default: CONFCOM_AESM_SOCKET, else /var/run/aesmd/aesm.socket.",
)
@output_option
def quote(*, report_data: bytes, out: Path | None, socket_path: Path | None, output: str) -> None:
    """Get a quote through the AESM socket, for a simulated enclave's report.

    \b
    Examples:
      confcom quote --report-data c0ffee --out q.bin
      confcom quote --report-data c0ffee --out - | confcom inspect -
      confcom quote --report-data c0ffee --socket DIR/aesm.socket --output json

    Only a simulated platform makes quotes for simulated enclaves; a quote helper on SGX hardware refuses the report
    (error 42 or 47).
    """
    if out == STDOUT and output == JSON:
        raise click.UsageError("'--out -' and '--output json' both write to stdout; the JSON has the quote too.")
    from confcom.client import AesmClient
    from confcom.sgx import report
    from confcom.simulation.enclave import SimulatedEnclave

    padded, enclave = report.report_data(report_data), SimulatedEnclave.from_name("confcom quote")
    client = AesmClient(socket_path)
    quoted = client.quote_fresh_report(lambda target_info: enclave.create_report(target_info, padded))
    if out is not None:
        _write(out, quoted.quote)
    facts = {
        "quote_size": len(quoted.quote),
        "mrenclave": enclave.mr_enclave.hex(),
        "mrsigner": enclave.mr_signer.hex(),
        "report_data": padded.hex(),
        "socket": str(client.socket_path),
        "file": None if out is None else str(out),
    }
    encoded = base64.b64encode(quoted.quote).decode()
    if output == JSON:
        show_json({**facts, "quote": encoded})
        return
    say = functools.partial(click.echo, err=out == STDOUT)
    say(f"A quote of {facts['quote_size']} bytes, through {printable(str(client.socket_path))}")
    say(f"  MRENCLAVE   {facts['mrenclave']}")
    say(f"  MRSIGNER    {facts['mrsigner']}")
    say(f"  report data {facts['report_data']}")
    if out is None:
        say(f"quote: {encoded}")
    elif out != STDOUT:
        say(printable(f"Written to {out}; look into it with: confcom inspect {shlex.quote(str(out))}"))


def _write(path: Path, quote: bytes) -> None:
    if path == STDOUT:
        click.echo(quote, nl=False)
        return
    with writing(f"the quote could not be written to {path}", error_code="quote-not-writable"):
        path.write_bytes(quote)
