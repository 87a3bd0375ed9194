"""Search for marks of simulation in quotes and collateral, and checks that the marks agree with the root."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import compress
from typing import Self

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx import simulation_marks as marks
from confcom.sgx.collateral_bundle import CollateralDocuments
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import EcdsaSignatureData, Quote, QuoteFrame
from confcom.sgx.report import INTEL_QE_MRSIGNER, ReportBody
from confcom.sgx.simulation_marks import Mark
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.td_report import INTEL_TD_QE_MRSIGNER
from confcom.verify.trust import Platform
from confcom.verify.verdict import Check, VerdictKind, judged

REQUIRED_MARKS = frozenset(
    {Mark.HEADER_USER_DATA, Mark.QE_AUTH_DATA, Mark.CERTIFICATE_NAMES, Mark.CERTIFICATE_COMMENTS, Mark.FMSPC}
)
"""Marks that a quote under a simulated root must have. They show simulation in the quote alone, in each certificate
alone and in a look-up by FMSPC. Other marks depend on the application's enclave or on the kind of CA."""

_COLLATERAL_MARKS = (Mark.ADVISORY, Mark.COLLATERAL_MEMBER)
"""Marks that TCB info and QE identity under a simulated root must both have; under other roots, they have none."""

UNDECLARED_MARKS = frozenset({Mark.QE_MRSIGNER})
"""Marks that every third party's quoting enclave has too, so that these marks do not declare simulation."""


@dataclass(frozen=True, slots=True)
class CertifyingMarks:
    """Marks in a quote's signature data. `all` has a certificate mark only if every certificate has it."""

    any: frozenset[Mark]
    all: frozenset[Mark]

    @classmethod
    def of(
        cls, signature: EcdsaSignatureData, chain: PckChain | None, extension: PckExtension | MalformedError | None
    ) -> Self:
        common = frozenset((*_signature_marks(signature), *_platform_marks(extension)))
        certificates = chain.certificates if chain else ()
        return cls(*(common.union(_certificate_marks(certificates, quantifier)) for quantifier in (any, all)))


def present_marks(quote: Quote | QuoteFrame, certifying: CertifyingMarks) -> frozenset[Mark]:
    """Return every mark of a quote. A certificate mark counts if one certificate of the chain has it."""
    return certifying.any.union(_signed_marks(quote))


def present_collateral_marks(collateral: CollateralDocuments) -> frozenset[Mark]:
    """Return every mark of collateral. A mark counts if one document or one TCB level has it."""
    documents = (collateral.tcb_info, collateral.qe_identity)
    advised = any(marks.ADVISORY_ID in level.advisory_ids for document in documents for level in document.levels)
    member = any(document.simulation for document in documents)
    return frozenset(compress(_COLLATERAL_MARKS, (advised, member)))


def _signed_marks(quote: Quote | QuoteFrame) -> Iterable[Mark]:
    if isinstance(quote.body, ReportBody) and quote.body.cpu_svn in marks.SIMULATION_CPU_SVNS:
        yield Mark.CPU_SVN
    if quote.header.user_data == marks.HEADER_USER_DATA:
        yield Mark.HEADER_USER_DATA


def _signature_marks(signature: EcdsaSignatureData) -> Iterable[Mark]:
    if signature.auth_data == marks.QE_AUTH_DATA:
        yield Mark.QE_AUTH_DATA
    if signature.qe_report_body.mr_signer not in {INTEL_QE_MRSIGNER, INTEL_TD_QE_MRSIGNER}:
        yield Mark.QE_MRSIGNER


def _certificate_marks(
    certificates: tuple[x509.Certificate, ...], quantifier: Callable[[Iterable[bool]], bool]
) -> Iterable[Mark]:
    if not certificates:
        return
    names = [name for certificate in certificates for name in (certificate.subject, certificate.issuer)]
    if quantifier(marks.has_simulated_name(name) for name in names):
        yield Mark.CERTIFICATE_NAMES
    if quantifier(marks.has_comment(certificate) for certificate in certificates):
        yield Mark.CERTIFICATE_COMMENTS


def _platform_marks(extension: PckExtension | MalformedError | None) -> Iterable[Mark]:
    if not isinstance(extension, PckExtension):
        return
    if extension.fmspc.startswith(marks.FMSPC_PREFIX):
        yield Mark.FMSPC
    if extension.ppid.startswith(marks.PLATFORM_ID_PREFIX):
        yield Mark.PPID
    if (extension.platform_instance_id or b"").startswith(marks.PLATFORM_ID_PREFIX):
        yield Mark.PLATFORM_INSTANCE_ID


def quote_marks_check(
    quote: QuoteFrame, certifying: CertifyingMarks, present: frozenset[Mark], platform: Platform
) -> Check:
    found = "; ".join(sorted(present)) or "none"
    if platform is Platform.SIMULATED:
        required = "the marks that a simulated platform always sets"
        # Every certificate of the chain must have the certificate marks.
        missing = "; ".join(sorted(REQUIRED_MARKS.difference(_signed_marks(quote), certifying.all)))
        why = f"missing: {missing}: made to look genuine"
        return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="marks", holds=not missing)
    why = "a quote that says it is simulated does not become genuine by its root"
    unmarked = not present - UNDECLARED_MARKS
    return judged("no mark of simulation", found, why, VerdictKind.NOT_AUTHENTIC, code="marks", holds=unmarked)


def collateral_marks_check(collateral: CollateralDocuments, platform: Platform) -> Check:
    """Under a simulated root, each document and each UpToDate level must be marked; under other roots, none."""
    present = present_collateral_marks(collateral)
    found = "; ".join(sorted(present)) or "none"
    if platform is Platform.SIMULATED:
        required = "the marks that a simulated platform always sets in its collateral"
        parts = (collateral.tcb_info, collateral.qe_identity)
        current = [level for part in parts for level in part.levels if level.status is TcbStatus.UP_TO_DATE]
        advised = all(marks.ADVISORY_ID in level.advisory_ids for level in current)
        member = all(part.simulation for part in parts)
        missing = compress(_COLLATERAL_MARKS, (not advised, not member))
        names = sorted(mark.value.removeprefix("collateral: ") for mark in missing)
        why = f"missing in TCB info or QE identity: {'; '.join(names)}"
        return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="collateral-marks", holds=not names)
    required = "no mark of simulation in the collateral"
    why = "collateral that says it is simulated says nothing about other platforms"
    return judged(required, found, why, VerdictKind.NOT_AUTHENTIC, code="collateral-marks", holds=not present)
