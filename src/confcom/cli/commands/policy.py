"""The commands `confcom policy` check a policy file, and write a policy file from a quote."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.output_option import output_option, show_result
from confcom.cli.parameter_types import INPUT

if TYPE_CHECKING:
    from confcom.sgx.pck.extension import PckExtension
    from confcom.sgx.report import ReportBody
    from confcom.sgx.td_report import TdReport10
    from confcom.verify.sgx_policy import Identity, SgxPolicy
    from confcom.verify.tdx_policy import TdImage, TdxPolicy


@click.group(no_args_is_help=True)
def policy() -> None:
    """Write and check policies: which quotes `confcom verify --policy` accepts."""


CHECK_EPILOG = """\b
Examples:
  confcom policy check policy.toml
  confcom policy check policy.toml --output json
"""


@policy.command(no_args_is_help=True, epilog=CHECK_EPILOG)
@click.argument("file", type=INPUT)
@output_option
def check(file: Path, output: str) -> None:
    """Check FILE (- for standard input), a policy in TOML, and remark on what it accepts that you may not mean.

    The exit code is 2 if the file has an unknown name in it, or a value that no quote could have.
    """
    from confcom.verify.policy_file import read_policy

    found = read_policy(file, tee=None)
    tee, remarks = found.tee.name, list(_remarks(found))
    show_result({"tee": tee.lower(), "remarks": remarks}, [f"A policy of {tee}.", *remarks], output)


QUOTE_EPILOG = """\b
Examples:
  confcom policy from-quote q.bin > policy.toml
  confcom verify q.bin --policy policy.toml --root intel --collateral DIR --report-data HEX
"""


@policy.command("from-quote", no_args_is_help=True, epilog=QUOTE_EPILOG)
@click.argument("quote", type=INPUT)
def from_quote(quote: Path) -> None:
    """Write a policy in TOML that accepts the enclave or TD of QUOTE, on its machine.

    Nothing is verified: take the quote of an enclave or TD that you built, on a machine that you trust.
    """
    from confcom.errors import MalformedError
    from confcom.sgx.pck.chain import PckChain
    from confcom.sgx.pck.extension import PckExtension
    from confcom.sgx.quote import Quote
    from confcom.sgx.td_report import TdReport10
    from confcom.verify.files import read_quote

    parsed = Quote.parse(read_quote(quote))
    of_body = _td_lines(parsed.body) if isinstance(parsed.body, TdReport10) else _enclave_lines(parsed.body)
    try:
        extension = PckExtension.from_certificate(PckChain.from_quote(parsed).leaf)
    except MalformedError:
        extension = None
    lines = [*(['tee = "tdx"', ""] if isinstance(parsed.body, TdReport10) else []), *_platform_lines(extension)]
    click.echo("\n".join([*lines, *of_body]))


def _remarks(found: SgxPolicy | TdxPolicy) -> Iterator[str]:
    from confcom.verify.sgx_policy import SgxPolicy

    subject, names, alternatives = "TD", "mr_td or [[images]]", "images"
    if isinstance(found, SgxPolicy):
        subject, names, alternatives = "enclave", "mr_enclave, mr_signer or [[identities]]", "identities"
    if not found.names_identity:
        yield f"It names no {subject}, so it accepts no quote: write {names}."
    for name in (alternatives, "platforms", "accepted_tcb_statuses"):
        value = getattr(found, name)
        if value is not None and not value:
            yield f"{name} is empty, so it accepts no quote."
    if len(listed := getattr(found, alternatives) or ()) > 1:
        yield f"Its {len(listed)} {alternatives} are alternatives: a quote need fit only the weakest of them."
    yield from _identity_remarks(found) if isinstance(found, SgxPolicy) else _image_remarks(found)
    if found.platforms is None:
        yield f"It names no platforms, so it accepts the {subject} on any machine, also on an attacker's."
    if found.max_collateral_age is None:
        yield "It has no max_collateral_age, so it accepts collateral until it expires, 30 days after issue at Intel."
    if found.allow_simulated:
        yield "It accepts simulated platforms, which protect nothing."


def _identity_remarks(found: SgxPolicy) -> Iterator[str]:
    enclaves: list[tuple[str, SgxPolicy | Identity]] = [("The policy", found)]
    enclaves += [(f"Identity {number}", identity) for number, identity in enumerate(found.identities or (), 1)]
    for name, enclave in enclaves:
        if enclave.mr_signer is None or enclave.mr_enclave is not None or found.mr_enclave is not None:
            continue
        if enclave.isv_prod_id is None and found.isv_prod_id is None:
            yield f"{name} names mr_signer without isv_prod_id, which accepts every product of this signer."
        if enclave.min_isv_svn is None and found.min_isv_svn is None:
            yield f"{name} names mr_signer without min_isv_svn, which accepts old versions with known faults."


def _image_remarks(found: TdxPolicy) -> Iterator[str]:
    from confcom.verify.verdict import RTMRS

    images: list[tuple[str, TdxPolicy | TdImage]] = [
        (f"Image {number}", image) for number, image in enumerate(found.images or (), 1)
    ]
    for name, image in images or ([("The policy", found)] if found.mr_td else []):
        left = [register for register in RTMRS if getattr(found, register) is getattr(image, register) is None]
        if left:
            yield f"{name} leaves {', '.join(left)} open, which accepts whatever software extended into them."


def _platform_lines(extension: PckExtension | None) -> Iterator[str]:
    if extension is not None:
        one = extension.platform_instance_id or extension.ppid
        kind = "platform instance id" if extension.platform_instance_id else "PPID"
        yield f"# The machine: the SHA-256 of its {kind}, {one.hex()}."
        yield "# Without this line any machine is accepted."
        yield f'platforms = ["{hashlib.sha256(one).hexdigest()}"]'
        yield ""


def _td_lines(body: TdReport10) -> Iterator[str]:
    yield "# The TD. To replace an image step by step, write one such table for each."
    yield "[[images]]"
    yield "# MRTD: what the host put into the TD before its start, in practice the virtual firmware."
    yield f'mr_td = "{body.mr_td.hex()}"'
    yield "# RTMR0: the virtual hardware and the firmware's settings. Another size of memory changes it."
    yield f'rtmr0 = "{body.rtmr0.hex()}"'
    yield "# RTMR1: what the firmware started, such as the boot loader or the kernel."
    yield f'rtmr1 = "{body.rtmr1.hex()}"'
    yield "# RTMR2: what the boot loader or the kernel's stub loaded, such as command line and initrd."
    yield f'rtmr2 = "{body.rtmr2.hex()}"'
    yield "# RTMR3: what software in the TD extended, if it did. Leave it out if it changes while the TD runs."
    yield f'rtmr3 = "{body.rtmr3.hex()}"'


def _enclave_lines(body: ReportBody) -> Iterator[str]:
    yield "# The enclave: this build."
    yield "[[identities]]"
    yield f'mr_enclave = "{body.mr_enclave.hex()}"'
    yield ""
    yield "# Any build of its signer from this version on: use these lines in place of mr_enclave."
    yield f'# mr_signer = "{body.mr_signer.hex()}"'
    yield f"# isv_prod_id = {body.isv_prod_id}"
    yield f"# min_isv_svn = {body.isv_svn}"
