"""The commands `confcom policy` check a policy file, and write a policy file from a quote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.output_option import output_option, show_result

if TYPE_CHECKING:
    from confcom.sgx.pck.extension import PckExtension
    from confcom.sgx.report import ReportBody
    from confcom.verify.sgx_policy import Identity, SgxPolicy


@click.group(no_args_is_help=True)
def policy() -> None:
    """Write and check policies: which quotes `confcom verify --policy` accepts."""


CHECK_EPILOG = """\b
Examples:
  confcom policy check policy.toml
  confcom policy check policy.toml --output json
"""


@policy.command(no_args_is_help=True, epilog=CHECK_EPILOG)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True, readable=False))
@output_option
def check(file: Path, output: str) -> None:
    """Check FILE (- for standard input), a policy in TOML, and show what it demands.

    The exit code is 2 if the file has an unknown name in it, or a value that no quote could have.
    """
    from confcom.verify.policy_file import read_policy

    found = read_policy(file)
    demands, remarks = _demands(found), list(_remarks(found))
    lines = [*(f"{name}: {_words(value)}" for name, value in demands.items()), *remarks]
    show_result({"demands": demands, "remarks": remarks}, lines, output)


QUOTE_EPILOG = """\b
Examples:
  confcom policy from-quote q.bin > policy.toml
  confcom verify q.bin --policy policy.toml --root intel --collateral DIR --report-data HEX
"""


@policy.command("from-quote", no_args_is_help=True, epilog=QUOTE_EPILOG)
@click.argument("quote", type=click.Path(path_type=Path, allow_dash=True, readable=False))
def from_quote(quote: Path) -> None:
    """Write a policy in TOML that accepts the enclave of QUOTE, on its machine.

    Nothing is verified: take the quote of an enclave that you built, on a machine that you trust.
    """
    from confcom.errors import MalformedError
    from confcom.sgx.pck.chain import PckChain
    from confcom.sgx.pck.extension import PckExtension
    from confcom.sgx.quote import Quote, require_sgx
    from confcom.verify.files import read_quote

    parsed = Quote.parse(read_quote(quote))
    body = require_sgx(parsed)
    try:
        extension = PckExtension.from_certificate(PckChain.from_quote(parsed).leaf)
    except MalformedError:
        extension = None
    click.echo("\n".join(_policy_lines(body, extension)))


def _demands(found: SgxPolicy | Identity) -> dict[str, object]:
    given = ((field.name, getattr(found, field.name)) for field in fields(found))
    # Compare with `is`, since 0 equals False, but 0 is a valid demand.
    demanded = ((name, one) for name, one in given if one is not None and one is not False)
    return {name: _plain(one) for name, one in demanded if one != timedelta(0)}


def _plain(value: object) -> object:
    from confcom.verify.sgx_policy import Identity

    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, Identity):
        return _demands(value)
    if isinstance(value, frozenset | tuple):
        return sorted(map(_plain, value), key=str)
    return value


def _words(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    rows = (", ".join(f"{name} {one}" for name, one in row.items()) if isinstance(row, dict) else row for row in value)
    return "; ".join(map(str, rows)) or "none"


def _remarks(found: SgxPolicy) -> Iterator[str]:
    if not found.names_identity:
        yield "It names no enclave, so it accepts no quote: write mr_enclave, mr_signer or [[identities]]."
    for name in ("identities", "platforms", "accepted_tcb_statuses"):
        value = getattr(found, name)
        if value is not None and not value:
            yield f"{name} is empty, so it accepts no quote."
    yield from _identity_remarks(found)
    if found.platforms is None:
        yield "It names no platforms, so it accepts the enclave on any machine, also on an attacker's."
    if found.max_collateral_age is None:
        yield "It has no max_collateral_age, so it accepts collateral until it expires, 30 days after issue at Intel."
    if found.allow_simulated:
        yield "It accepts simulated platforms, which protect nothing."


def _identity_remarks(found: SgxPolicy) -> Iterator[str]:
    identities = found.identities or ()
    if len(identities) > 1:
        yield f"Its {len(identities)} identities are alternatives: a quote need fit only the weakest of them."
    enclaves: list[tuple[str, SgxPolicy | Identity]] = [("The policy", found)]
    enclaves += [(f"Identity {number}", identity) for number, identity in enumerate(identities, 1)]
    for name, enclave in enclaves:
        if enclave.mr_signer is None or enclave.mr_enclave is not None or found.mr_enclave is not None:
            continue
        if enclave.isv_prod_id is None and found.isv_prod_id is None:
            yield f"{name} names mr_signer without isv_prod_id, which accepts every product of this signer."
        if enclave.min_isv_svn is None and found.min_isv_svn is None:
            yield f"{name} names mr_signer without min_isv_svn, which accepts old versions with known faults."


def _policy_lines(body: ReportBody, extension: PckExtension | None) -> Iterator[str]:
    if extension is not None:
        one = extension.platform_instance_id or extension.ppid
        kind = "platform instance id" if extension.platform_instance_id else "PPID"
        yield f"# The machine: the SHA-256 of its {kind}, {one.hex()}."
        yield "# Without this line any machine is accepted."
        yield f'platforms = ["{hashlib.sha256(one).hexdigest()}"]'
        yield ""
    yield "# The enclave: this build."
    yield "[[identities]]"
    yield f'mr_enclave = "{body.mr_enclave.hex()}"'
    yield ""
    yield "# Any build of its signer from this version on: use these lines in place of mr_enclave."
    yield f'# mr_signer = "{body.mr_signer.hex()}"'
    yield f"# isv_prod_id = {body.isv_prod_id}"
    yield f"# min_isv_svn = {body.isv_svn}"
