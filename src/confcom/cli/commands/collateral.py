"""The commands `confcom collateral`: fetch what a verifier needs besides a quote, or serve it for a simulation."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.commands.daemons import simulated_pcs
from confcom.cli.output_option import TEXT, output_option, show_result
from confcom.cli.parameter_types import INPUT, PATH
from confcom.errors import printable, writing

if TYPE_CHECKING:
    from confcom.collateral import Source

KEY_VARIABLE = "CONFCOM_PCS_API_KEY"


@click.group(no_args_is_help=True)
def collateral() -> None:
    """Collateral: TCB info, QE identity and revocation lists of a platform."""


EPILOG = f"""\b
The service is asked for the kind of platform that the quote's PCK certificate names, and for the quote's TEE, SGX or
TDX; no address is taken from the quote. URL is the service's address for SGX, also if the quote is of TDX. HTTPS_PROXY
and NO_PROXY of the environment are used. A key may also be in the variable {KEY_VARIABLE}.

\b
Examples:
  confcom collateral fetch q.bin --from intel --out collateral.json
  confcom collateral fetch q.bin --from intel --early --out collateral.json
  confcom collateral fetch q.bin --from https://pccs.example:8081 --ca ca.pem --out collateral.json
  confcom verify q.bin --root intel --collateral collateral.json --mrenclave HEX --report-data HEX
"""


@collateral.command(no_args_is_help=True, epilog=EPILOG)
@click.argument("quote", type=INPUT)
@click.option("--from", "service", required=True, metavar="intel|azure|URL", help="The service to ask.")
@click.option("--out", required=True, type=PATH, metavar="FILE", help="Where the collateral goes, as JSON.")
@click.option("--early", is_flag=True, help="The early set, with the newest TCB recovery, not the standard one.")
@click.option("--evaluation", type=int, metavar="N", help="The set with this TCB evaluation data number.")
@click.option(
    "--ca",
    "ca_file",
    type=PATH,
    metavar="FILE",
    help="Authorities that may certify the service, PEM [default: the system's].",
)
@click.option("--api-key-file", type=PATH, metavar="FILE", help="A file with a key for the service.")
@click.option("--timeout", type=float, default=30.0, show_default=True, metavar="SECONDS", help="For everything.")
@output_option
def fetch(
    *,
    quote: Path,
    service: str,
    out: Path,
    early: bool,
    evaluation: int | None,
    ca_file: Path | None,
    api_key_file: Path | None,
    timeout: float,
    output: str,
) -> None:
    """Fetch the collateral of QUOTE, of SGX or TDX (a file, or - for standard input; binary, hex or base64)."""
    from confcom.collateral import fetch_collateral
    from confcom.verify.files import read_quote
    from confcom.verify.verdict import utc_text

    source = source_of(service, ca_file, api_key_file)
    found = fetch_collateral(read_quote(quote), source, early=early, evaluation=evaluation, seconds=timeout)
    with writing(f"{out} cannot be written", error_code="collateral-not-written"):
        out.write_text(found.to_json())
    documents = found.read()
    expired = documents.expires <= datetime.now(UTC)
    facts: dict[str, object] = {
        "file": str(out),
        "source": source.base,
        "tee": documents.tcb_info.tee.name,
        "fmspc": documents.tcb_info.fmspc.hex(),
        "evaluation_number": found.evaluation_number,
        "expires": utc_text(documents.expires),
        "expired": expired,
    }
    lines = (f"{name.replace('_', ' ')}: {printable(str(value))}" for name, value in facts.items())
    show_result(facts, lines, output)
    if expired and output == TEXT:
        by_policy = "Azure's cache serves such sets by its policy" if service == "azure" else "the service serves it so"
        click.echo(f"It has expired, and verifies nothing at the present: {by_policy}; ask --from intel.", err=True)


collateral.add_command(simulated_pcs)


def source_of(service: str, ca_file: Path | None, api_key_file: Path | None) -> Source:
    from dataclasses import replace

    from confcom.collateral import AZURE_CACHE, INTEL_PCS, Source
    from confcom.verify.files import read_regular_file

    key = os.environ.get(KEY_VARIABLE, "")
    if api_key_file is not None:
        key = read_regular_file(api_key_file, 4096).decode(errors="replace").strip()
    known = {"intel": INTEL_PCS, "azure": AZURE_CACHE}
    source = known[service] if service in known else Source(service)
    return replace(source, api_key=key, ca_file=ca_file)
