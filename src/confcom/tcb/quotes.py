"""The SVNs of a quote that a person passes, and whether the quote is authentic."""

from datetime import datetime
from pathlib import Path
from typing import Any

from confcom.errors import ConfcomError
from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.platform_page import CertifiedTcb, SgxKind
from confcom.sgx.quote import Quote, tee_of
from confcom.tcb.judgement import Machine, Svns
from confcom.tcb.sets import Trust
from confcom.verify import NotVerifiedError, Policy, PreparedCollateral, SgxPolicy, TdxPolicy, TeeType, TrustedRoot
from confcom.verify.checks.tcb_level import TdxModuleReport
from confcom.verify.files import input_name, read_quote
from confcom.verify.verifier import UNDECIDABLE, refusal_without_collateral, tee_of_quote, verify_quote

_LOW_TCB = frozenset({"tcb-revoked", "tcb-not-listed"})
"""Checks that fail because of the SVNs alone, which are what is judged."""


def read_machine(path: Path, trust: Trust, now: datetime) -> Machine:
    """Read the machine of a quote in a file. A quote that cannot be read, or is forged, is the machine's failure."""
    name = input_name(path)
    try:
        quote = read_quote(path)
        require_authentic(quote, trust.root, None, now)
        svns, pck = svns_of(quote, trust.sgx)
    except ConfcomError as error:
        return Machine(name, failure=error)
    return Machine(name, svns, pck.not_after, quote=quote)


def svns_of(data: bytes, sgx: SgxKind) -> tuple[Svns, CertifiedTcb]:
    """Raise MalformedError if this is no quote, or one without a readable PCK certificate."""
    quote = Quote.parse(data)
    tcb, module = CertifiedTcb.of(PckChain.from_quote(quote).leaf), TdxModuleReport.of(quote.body)
    kind = PlatformKind(tcb.fmspc, tcb.ca, tee_of(quote.body))
    modules, qe = module.svns if module else (), quote.signature.qe_report_body.isv_svn
    return Svns(sgx, kind, tcb.pce_id, tcb.components, tcb.pce_svn, modules, qe), tcb


def require_authentic(quote: bytes, root: TrustedRoot, collateral: PreparedCollateral | None, now: datetime) -> None:
    """Raise NotVerifiedError if the quote is not authentic, or cannot be decided on; no policy is asked.

    Without collateral, only forgeries are refused, so that nobody causes a fetch by a forged quote.
    """
    policy: Policy[Any] = TdxPolicy() if tee_of_quote(quote) is TeeType.TDX else SgxPolicy()
    if collateral is None:
        refused = refusal_without_collateral(quote, policy, root, now)
        if refused is not None:
            raise NotVerifiedError(refused)
        return
    verdict = verify_quote(quote, root, collateral, policy, now)
    if {check.code for check in verdict.failures if check.consequence in UNDECIDABLE} - _LOW_TCB:
        raise NotVerifiedError(verdict)
