"""Which marks of simulation a quote and its collateral carry, and which of those that they must carry they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx import marks
from confcom.sgx.collateral import Collateral
from confcom.sgx.key_id import INTEL_QE_MRSIGNER
from confcom.sgx.marks import Mark
from confcom.sgx.pck_extension import PckExtension
from confcom.sgx.quote import Quote
from confcom.sgx.tcb import TcbStatus
from confcom.verify.pck_chain import PckChain

REQUIRED_MARKS = frozenset(
    {
        Mark.HEADER_USER_DATA,
        Mark.QE_AUTH_DATA,
        Mark.CERTIFICATE_NAMES,
        Mark.CERTIFICATE_COMMENTS,
        Mark.FMSPC,
    }
)
"""What a quote under a simulated root must carry: enough that the quote alone, each certificate alone and a look-up by
FMSPC show what they are. The others depend on the application's enclave or on the kind of CA."""

COLLATERAL_MARKS = frozenset({Mark.ADVISORY, Mark.COLLATERAL_MEMBER})
"""What collateral under a simulated root must carry, TCB info and QE identity alike, and no other may."""

UNDECLARED_MARKS = frozenset({Mark.QE_MRSIGNER})
"""Marks that a third party's quoting enclave shows too, without saying that it is simulated."""


def root_is_marked(root: x509.Certificate) -> bool:
    """Whether a root certificate says of itself that it is a simulated platform's."""
    return marks.has_simulated_name(root.subject) and _has_comment(root)


def present_marks(quote: Quote, chain: PckChain | None) -> frozenset[Mark]:
    """Every mark that shows anywhere in a quote; one marked certificate in the chain is enough."""
    return frozenset(_quote_marks(quote)) | frozenset(_chain_marks(chain, any) if chain else ())


def missing_marks(quote: Quote, chain: PckChain) -> frozenset[Mark]:
    """Marks that a simulated platform always sets and this quote lacks; every certificate must carry its own."""
    return REQUIRED_MARKS - frozenset(_quote_marks(quote)) - frozenset(_chain_marks(chain, all))


def present_collateral_marks(collateral: Collateral) -> frozenset[Mark]:
    """Every mark that shows anywhere in collateral; one marked document, or one level, is enough.

    Raises:
        MalformedError: TCB info or QE identity cannot be read.
    """
    documents = (collateral.read_tcb_info(), collateral.read_qe_identity())
    advised = any(marks.ADVISORY_ID in level.advisory_ids for document in documents for level in document.levels)
    member = any(document.simulation is not None for document in documents)
    return _collateral_marks(advised=advised, member=member)


def missing_collateral_marks(collateral: Collateral) -> frozenset[Mark]:
    """Marks that a simulated platform's collateral always has and this lacks; each document must carry its own.

    Raises:
        MalformedError: TCB info or QE identity cannot be read.
    """
    documents = (collateral.read_tcb_info(), collateral.read_qe_identity())
    current = [level for document in documents for level in document.levels if level.status is TcbStatus.UP_TO_DATE]
    advised = all(marks.ADVISORY_ID in level.advisory_ids for level in current)
    member = all(document.simulation is not None for document in documents)
    return COLLATERAL_MARKS - _collateral_marks(advised=advised, member=member)


def _quote_marks(quote: Quote) -> Iterable[Mark]:
    if quote.body.cpu_svn in marks.SIMULATION_CPU_SVNS:
        yield Mark.CPU_SVN
    if quote.header.user_data == marks.HEADER_USER_DATA:
        yield Mark.HEADER_USER_DATA
    if quote.signature.auth_data == marks.QE_AUTH_DATA:
        yield Mark.QE_AUTH_DATA
    if quote.signature.qe_report_body.mr_signer != INTEL_QE_MRSIGNER:
        yield Mark.QE_MRSIGNER


def _chain_marks(chain: PckChain, quantifier: Callable[[Iterable[bool]], bool]) -> Iterable[Mark]:
    certificates = chain.certificates
    names = [name for certificate in certificates for name in (certificate.subject, certificate.issuer)]
    if quantifier(marks.has_simulated_name(name) for name in names):
        yield Mark.CERTIFICATE_NAMES
    if quantifier(_has_comment(certificate) for certificate in certificates):
        yield Mark.CERTIFICATE_COMMENTS
    extension = _readable_extension(chain.leaf)
    if extension is None:
        return
    if extension.fmspc == marks.FMSPC:
        yield Mark.FMSPC
    if extension.ppid == marks.PPID:
        yield Mark.PPID
    if extension.platform_instance_id == marks.PLATFORM_INSTANCE_ID:
        yield Mark.PLATFORM_INSTANCE_ID


def _collateral_marks(*, advised: bool, member: bool) -> frozenset[Mark]:
    shown = {Mark.ADVISORY: advised, Mark.COLLATERAL_MEMBER: member}
    return frozenset(mark for mark, shows in shown.items() if shows)


def _readable_extension(leaf: x509.Certificate) -> PckExtension | None:
    try:
        return PckExtension.from_certificate(leaf)
    except MalformedError:
        return None


def _has_comment(certificate: x509.Certificate) -> bool:
    try:
        certificate.extensions.get_extension_for_oid(marks.NS_COMMENT_OID)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return True
