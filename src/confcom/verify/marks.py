"""Which marks of simulation a quote carries, and whether they agree with the root that it is verified under."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cryptography import x509

from confcom.errors import MalformedError
from confcom.sgx import marks
from confcom.sgx.key_id import INTEL_QE_MRSIGNER
from confcom.sgx.marks import Mark
from confcom.sgx.pck_extension import PckExtension
from confcom.sgx.quote import Quote
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
FMSPC show what they are. The others depend on the application's enclave, on the kind of CA, or on the collateral."""

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
