"""The commands `confcom collateral`: fetch what a verifier needs besides the quote, or serve that of a simulation."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.output_option import JSON, output_option
from confcom.cli.path_type import NamedPath
from confcom.errors import OutputError, SettingsError, printable
from confcom.simulation.staging import Staging

if TYPE_CHECKING:
    from confcom.collateral import Source

KEY_VARIABLE = "CONFCOM_PCS_API_KEY"


@click.group(no_args_is_help=True)
def collateral() -> None:
    """Collateral: TCB info, QE identity and revocation lists of a platform."""


EPILOG = f"""\b
The service is asked for the kind of platform that the quote's PCK certificate names; no address is taken from the
quote. HTTPS_PROXY and NO_PROXY of the environment are used. A key may also be in the variable {KEY_VARIABLE}.

\b
Examples:
  confcom collateral fetch q.bin --from intel --out collateral.json
  confcom collateral fetch q.bin --from intel --early --out collateral.json
  confcom collateral fetch q.bin --from https://pccs.example:8081 --ca ca.pem --out collateral.json
  confcom verify q.bin --root intel --collateral collateral.json --mrenclave HEX --report-data HEX
"""


@collateral.command(no_args_is_help=True, epilog=EPILOG)
@click.argument("quote", type=click.Path(path_type=Path, allow_dash=True, readable=False))
@click.option("--from", "service", required=True, metavar="intel|azure|URL", help="The service to ask.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Where the collateral goes, as JSON."
)
@click.option("--early", is_flag=True, help="The early set, with the newest TCB recovery, not the standard one.")
@click.option("--evaluation", type=int, metavar="N", help="The set with this TCB evaluation data number.")
@click.option(
    "--ca",
    "ca_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Authorities that may certify the service, PEM [default: the system's].",
)
@click.option(
    "--api-key-file", type=click.Path(path_type=Path), metavar="FILE", help="A file with a key for the service."
)
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
    """Fetch the collateral of QUOTE (a file, or - for standard input; binary, hex or base64)."""
    from confcom.collateral import fetch_collateral
    from confcom.verify.files import read_quote
    from confcom.verify.verdict import utc_text

    source = _source(service, ca_file, api_key_file)
    found = fetch_collateral(read_quote(quote), source, early=early, evaluation=evaluation, seconds=timeout)
    _write(out, found.to_json())
    documents = found.read()
    expired = documents.expires <= datetime.now(UTC)
    facts: dict[str, object] = {
        "file": str(out),
        "source": source.base,
        "fmspc": documents.tcb_info.fmspc.hex(),
        "evaluation_number": found.evaluation_number,
        "expires": utc_text(documents.expires),
        "expired": expired,
    }
    if output == JSON:
        click.echo(json.dumps(facts, indent=2))
        return
    click.echo("\n".join(f"{name.replace('_', ' ')}: {printable(str(value))}" for name, value in facts.items()))
    if expired:
        by_policy = "Azure's cache serves such sets by its policy" if service == "azure" else "the service serves it so"
        click.echo(f"It has expired, and verifies nothing at the present: {by_policy}; ask --from intel.", err=True)


SERVE_EPILOG = """\b
Clients of Intel's service and of a PCCS find it under /sgx/certification/v4/: tcb, qe/identity, pckcrl, rootcacrl, crl
and tcbevaluationdatanumbers, all for SGX. /livez and /readyz are for probes. It ends with SIGTERM, SIGINT or Ctrl-C.

\b
Examples:
  confcom collateral serve --state-dir ./platform
  confcom collateral serve --state-dir ./platform --staging early
  confcom collateral fetch q.bin --from http://127.0.0.1:8081 --early --out early.json
  confcom collateral serve --state-dir ./platform --address 0.0.0.0:8081 --tls-cert tls.crt --tls-key tls.key
"""


@collateral.command(epilog=SERVE_EPILOG)
@click.option(
    "--state-dir",
    type=NamedPath(),
    metavar="STATE_DIR",
    help="The simulated platform.  [default: this user's, ~/.local/state/confcom/simulation]",
)
@click.option(
    "--address", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Where it listens; port 0: any."
)
@click.option(
    "--staging",
    type=click.Choice([one.value for one in Staging]),
    default=Staging.NONE.value,
    show_default=True,
    help="What the collateral says of the platform.",
)
@click.option(
    "--pccs",
    is_flag=True,
    help="PCK revocation lists without `encoding` in hexadecimal, as a PCCS has them, not as PEM.",
)
@click.option("--tls-cert", type=NamedPath(), metavar="FILE", help="Serve by HTTPS with this certificate, PEM.")
@click.option("--tls-key", type=NamedPath(), metavar="FILE", help="Its key, if that is not in the same file.")
def serve(
    *, state_dir: Path | None, address: str, staging: str, pccs: bool, tls_cert: Path | None, tls_key: Path | None
) -> None:
    """Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS.

    The collateral is signed for the present at each request, so it never needs to be renewed. It says that it is
    simulated, and verifies quotes of this platform alone. One line for each request goes to standard error.
    """
    from confcom.quote_provider.state_directory import default_state_dir, exposure, open_platform, utc_now
    from confcom.simulated_pcs.answers import API_PATH, answer
    from confcom.simulated_pcs.server import Server, tls_context

    if tls_key is not None and tls_cert is None:
        raise SettingsError(
            "--tls-key is given without --tls-cert",
            error_code="serving-certificate",
            remedy="give both, or neither",
        )
    directory = state_dir or default_state_dir(os.environ)
    platform = open_platform(directory)
    if (warning := exposure(directory)) is not None:
        click.echo(printable(f"Warning: {warning}"), err=True)

    def log(line: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            click.echo(printable(line), err=True)

    server = Server(
        address,
        lambda target: answer(target, platform, utc_now(), Staging(staging), pccs=pccs),
        log=log,
        tls=tls_context(tls_cert, tls_key) if tls_cert is not None else None,
    )
    # Blocked before any thread starts, so that only sigwait gets them: a handler could interrupt its own waiting.
    ends = {signal.SIGTERM, signal.SIGINT}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        with server.serving():
            click.echo(f"Serving simulated collateral at {server.url}{API_PATH} (staging: {staging})")
            signal.sigwait(ends)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _source(service: str, ca_file: Path | None, api_key_file: Path | None) -> Source:
    from dataclasses import replace

    from confcom.collateral import AZURE_CACHE, INTEL_PCS, Source
    from confcom.verify.files import read_regular_file

    key = os.environ.get(KEY_VARIABLE, "")
    if api_key_file is not None:
        key = read_regular_file(api_key_file, 4096).decode(errors="replace").strip()
    known = {"intel": INTEL_PCS, "azure": AZURE_CACHE}
    source = known[service] if service in known else Source(service)
    return replace(source, api_key=key, ca_file=ca_file)


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written",
            error_code="collateral-not-written",
            why=error.strerror or str(error),
            remedy="give --out a path that can be written",
        ) from error
