"""The command `confcom verify` checks a quote against a root, collateral and a policy."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from confcom.cli.output_option import TEXT, output_option, show_result
from confcom.cli.parameter_types import INPUT, hexadecimal, instant
from confcom.errors import MalformedError, as_data, printable

if TYPE_CHECKING:
    from confcom.verify.sgx_policy import SgxPolicy
    from confcom.verify.tdx_policy import TdxPolicy
    from confcom.verify.trust import TrustedRoot
    from confcom.verify.verdict import Check, Verdict

INTEL = "intel"
"""The value of --root that stands for Intel's root, which this package contains."""

_MAX_PORT = 0xFFFF

_TCB_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, such as enclave.example:443 or [::1]:443")
    return host.removeprefix("[").removesuffix("]"), int(port)


_PLATFORM_NOTES = {
    "genuine": "",
    "simulated": ", so no hardware protects the enclave or TD",
    "unknown": ": no root that stands for hardware vouches for it",
}

_COLOURS = {"passed": "green", "failed": "red", "not-checked": "yellow"}
_STATUS_WIDTH = max(map(len, _COLOURS))

EPILOG = """\b
The last line is the verdict; there is none if a file cannot be read. Exit codes:
  0  verified
  3  authentic, but the quote does not meet the policy, or the policy demands nothing
  4  not authentic
  5  unusable: not a quote, or collateral is missing, malformed, expired, or for another platform

\b
Examples:
  confcom simulation export --state-dir STATE out
  confcom verify q.bin --root out/root.pem --collateral out/collateral \\
      --mrenclave HEX --report-data HEX --allow-simulated
  confcom verify q.bin --root intel --collateral DIR --mrsigner HEX --report-data HEX --output json
  confcom verify q.bin --root intel --collateral DIR --policy policy.toml --report-data HEX
  confcom verify td.bin --root intel --collateral DIR --mr-td HEX --rtmr1 HEX --rtmr2 HEX --report-data HEX
  confcom verify --connect enclave.example:443 --root intel --collateral DIR --policy policy.toml
"""


_hex_option = functools.partial(click.option, type=hexadecimal, metavar="HEX")


@click.command(no_args_is_help=True, epilog=EPILOG)
@click.argument("quote", required=False, type=INPUT)
@click.option(
    "--connect",
    "peer",
    type=_address,
    metavar="HOST:PORT",
    help="Verify the TLS service there by its certificate (RA-TLS), in place of QUOTE.",
)
@click.option("--root", required=True, metavar="FILE|intel", help="The root certificate to trust, PEM or DER.")
@click.option(
    "--collateral",
    type=INPUT,
    metavar="DIR|FILE",
    help="TCB info, QE identity, revocation lists: a directory, or a JSON file.",
)
@click.option(
    "--policy",
    "policy_file",
    type=INPUT,
    metavar="FILE",
    help="A policy in TOML, of SGX or TDX; options that are given too replace its entries.",
)
@_hex_option("--mrenclave", "mr_enclave", help="The expected measurement of the enclave.")
@_hex_option("--mrsigner", "mr_signer", help="The expected signer of the enclave.")
@click.option("--isv-prod-id", type=int, help="The expected product ID (ISVPRODID) of that signer.")
@click.option("--min-isv-svn", type=int, help="The lowest security version (ISVSVN) to accept.")
@_hex_option("--report-data", help="The expected report data; fewer than 64 bytes are padded with zeros.")
@_hex_option("--config-id", help="The expected CONFIGID (KSS), 64 bytes.")
@click.option("--min-config-svn", type=int, help="The lowest CONFIGSVN to accept (KSS).")
@_hex_option("--isv-ext-prod-id", help="The expected ISVEXTPRODID (KSS).")
@_hex_option("--isv-family-id", help="The expected ISVFAMILYID (KSS).")
@_hex_option("--mr-td", help="The expected measurement of the TD (MRTD); this and --rtmr0 to --rtmr3 are for TDX.")
@_hex_option("--rtmr0", help="The expected RTMR0 of the TD.")
@_hex_option("--rtmr1", help="The expected RTMR1 of the TD.")
@_hex_option("--rtmr2", help="The expected RTMR2 of the TD.")
@_hex_option("--rtmr3", help="The expected RTMR3 of the TD.")
@click.option(
    "--accept-tcb",
    "accepted_tcb_statuses",
    type=click.Choice(_TCB_STATUSES),
    metavar="STATUS",
    multiple=True,
    help="TCB status to accept: " + ", ".join(_TCB_STATUSES) + " [default: UpToDate].",
)
@click.option(
    "--accept-advisory",
    "accepted_advisories",
    metavar="ID",
    multiple=True,
    help="Accept platforms only if no other advisory than this applies to them; may be repeated.",
)
@click.option(
    "--reject-advisory",
    "rejected_advisories",
    metavar="ID",
    multiple=True,
    help="Reject platforms that this advisory applies to; may be repeated.",
)
@click.option(
    "--platforms",
    type=INPUT,
    metavar="FILE",
    help="The machines to accept: on each line a platform id (of `confcom inspect`) or its SHA-256; # comments.",
)
@click.option("--allow-simulated", is_flag=True, help="Accept a simulated platform, which protects nothing.")
@click.option("--allow-debug", is_flag=True, help="Accept debug enclaves and debug TDs of simulated platforms.")
@click.option(
    "--at", type=instant, metavar="TIME", help="Verify as of this time; UTC without an offset [default: now]."
)
@output_option
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    *,
    quote: Path | None,
    peer: tuple[str, int] | None,
    root: str,
    collateral: Path | None,
    policy_file: Path | None,
    at: datetime | None,
    output: str,
    **demands: Any,  # noqa: ANN401 # as click has them
) -> None:
    """Check QUOTE (a file, or - for standard input; binary, hex or base64) against a root, collateral and your policy.

    The command fetches nothing from the network. A quote is verified only if the policy names the expected enclave
    (--mrenclave or --mrsigner) or TD (--mr-td), and the expected report data (--report-data). With --connect, the
    command connects to a service and sends nothing after the TLS handshake; the report data must then match the
    certificate's key.
    """
    from confcom.verify.files import UnreadableInputError, read_collateral, read_quote, read_root
    from confcom.verify.trust import intel_root
    from confcom.verify.verdict import unusable
    from confcom.verify.verifier import verify_quote

    if (quote is None) == (peer is None):
        raise click.UsageError("Give QUOTE or --connect, one of the two.")
    if peer and demands["report_data"] is not None:
        raise click.UsageError("--report-data cannot be given with --connect: it follows from the certificate's key.")
    policy = _policy(demands, policy_file)
    input_error: dict[str, object] = {}
    now = at or datetime.now(UTC)
    try:
        data = read_quote(quote) if quote else b""
        trusted = intel_root() if root == INTEL else read_root(Path(root))
        if peer:
            verdict = _peer_verdict(peer, policy, collateral, trusted, now)
        else:
            parsed_collateral = read_collateral(collateral, data) if collateral else None
            verdict = verify_quote(data, trusted, parsed_collateral, policy, now)
    except (UnreadableInputError, MalformedError) as error:
        if output == TEXT:
            raise
        verdict = unusable("a quote, a root certificate and collateral that can be read", error, code="input")
        input_error = {"error": as_data(error)}
    show_result(verdict.to_json() | input_error, _lines(verdict), output)
    ctx.exit(verdict.kind.exit_code)


def _peer_verdict(
    peer: tuple[str, int], policy: SgxPolicy | TdxPolicy, collateral: Path | None, root: TrustedRoot, now: datetime
) -> Verdict[Any]:
    from confcom.verify.files import read_collateral
    from confcom.verify.ratls import connect
    from confcom.verify.verdict import NotVerifiedError

    chosen = (lambda quote: read_collateral(collateral, quote)) if collateral else None
    try:
        with connect(*peer, policy, chosen, root, now=now) as connection:
            return connection.verdict
    except NotVerifiedError as error:
        return error.verdict


def _policy(demands: dict[str, Any], file: Path | None) -> SgxPolicy | TdxPolicy:
    from confcom.sgx.report import REPORT_DATA_SIZE, report_data
    from confcom.verify.policy_file import read_platforms, read_policy
    from confcom.verify.sgx_policy import SgxPolicy
    from confcom.verify.tdx_policy import TdxPolicy

    if demands["platforms"] is not None:
        demands["platforms"] = read_platforms(demands["platforms"])
    challenge = demands["report_data"]
    if challenge is not None and len(challenge) < REPORT_DATA_SIZE:
        note = f"Note: {len(challenge)} bytes of report data are filled up with zeros to {REPORT_DATA_SIZE}."
        click.echo(note, err=True)
    demands["report_data"] = None if challenge is None else report_data(challenge)
    # Compare with `is`, since 0 equals False, but 0 is a valid demand.
    given = {name: value for name, value in demands.items() if value is not None and value is not False and value != ()}
    options = [parameter for parameter in click.get_current_context().command.params if parameter.name in given]
    of_enclaves = [option.opts[0] for option in options if option.name not in TdxPolicy.__dataclass_fields__]
    of_tds = [option.opts[0] for option in options if option.name not in SgxPolicy.__dataclass_fields__]
    if of_enclaves and of_tds:
        raise click.UsageError(f"{of_enclaves[0]} is of an enclave and {of_tds[0]} of a TD; no quote is of both.")
    if file is None:
        return TdxPolicy(**given) if of_tds else SgxPolicy(**given)
    policy = read_policy(file, tee=None)
    if misplaced := of_tds if isinstance(policy, SgxPolicy) else of_enclaves:
        raise click.UsageError(f"{misplaced[0]} does not fit {file}, which is a policy of {policy.tee.name}.")
    return replace(policy, **given)


def _lines(verdict: Verdict[Any]) -> Iterator[str]:
    """Yield the lines for a verdict. The verdict itself comes last, next to the shell's prompt."""
    from confcom.verify.verdict import RTMRS, TdxClaims

    yield f"platform: {verdict.platform}{_PLATFORM_NOTES[verdict.platform]}"
    if verdict.tcb_status:
        advisories = printable(", ".join(verdict.advisory_ids)) or "none"
        yield f"TCB: {verdict.tcb_status}; advisories: {advisories}"
    if isinstance(verdict.claims, TdxClaims):
        yield from (f"{name}: {getattr(verdict.claims, name).hex()}" for name in ("mr_td", *RTMRS))
    width = max((len(check.name) for check in verdict.checks), default=0)
    for check in verdict.checks:
        yield from _check_lines(check, width)
    if verdict.failures:
        yield "failed: " + ", ".join(check.name for check in verdict.failures)
    yield click.style(verdict.kind.upper().replace("-", " "), fg="green" if verdict.ok else "red", bold=True)


def _check_lines(check: Check, width: int) -> Iterator[str]:
    status = click.style(f"{check.status:<{_STATUS_WIDTH}}", fg=_COLOURS[check.status])
    if not check.consequence:
        detail = check.found or check.why or check.required
        yield f"{status}  {check.name:<{width}}  {printable(detail)}".rstrip()
        return
    yield f"{status}  {check.name}"
    for label, text in (("required", check.required), ("found", check.found), ("why", check.why)):
        if text:
            yield f"  {label + ':':10}{printable(text)}"
