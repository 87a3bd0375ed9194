"""The SVNs of a quote given by hand, and whether the quote is authentic. No I/O."""

from __future__ import annotations

from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.platform_page import CertifiedTcb, SgxKind
from confcom.sgx.quote import Quote, tee_of
from confcom.tcb.judgement import Svns
from confcom.verify.checks.tcb_level import TdxModuleReport


def pck_of(quote: bytes) -> CertifiedTcb:
    """Raise MalformedError if the quote has no readable PCK certificate."""
    return CertifiedTcb.of(PckChain.from_quote(Quote.parse(quote)).leaf)


def svns_of(quote: bytes, sgx: SgxKind) -> Svns:
    """Raise MalformedError if the quote has no readable PCK certificate."""
    parsed, tcb = Quote.parse(quote), pck_of(quote)
    kind = PlatformKind(tcb.fmspc, tcb.ca, tee_of(parsed.body))
    module, qe = TdxModuleReport.of(parsed.body), parsed.signature.qe_report_body.isv_svn
    return Svns(sgx, kind, tcb.pce_id, tcb.components, tcb.pce_svn, module.svns if module else (), qe)
