"""The redacted anatomy of a quote that a tenant got, and our verdict as far as it goes. Pure.

Of the anatomy's fields, those in SHOWN appear; a field that is not named there is redacted, whatever it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confcom.errors import MalformedError
from confcom.hardware_report.document.redaction import Secrets, Value, redacted
from confcom.hardware_report.document.report import Finding, Section
from confcom.sgx.certification import PPID_SIZES, UNREADABLE_X509
from confcom.sgx.open_enclave import has_open_enclave_header, strip_open_enclave_header
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import QUOTE_HEADER_SIZE, SIGNED_PART_SIZE, Quote, QuoteHeader
from confcom.sgx.report import ReportBody
from confcom.verify.anatomy import Anatomy, Field, dissect
from confcom.verify.policy import Policy
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import CheckStatus
from confcom.verify.verifier import verify_quote

QE_ID_SIZE = 16
"""Of the header's user data: what Intel's quoting enclave derives from the machine's seal key."""

_BODY = frozenset(
    {
        "mr_enclave",
        "mr_signer",
        "isv_prod_id",
        "isv_svn",
        "attributes",
        "xfrm",
        "misc_select",
        "cpu_svn",
        "debug",
        "config_svn",
    }
)
_NAMES = frozenset({"subject", "issuer", "not_before", "not_after"})
_PLATFORM = frozenset(
    {
        "fmspc",
        "pce_id",
        "tcb_components",
        "tcb_pce_svn",
        "sgx_type",
        "sgx_extension",
        "dynamic_platform",
        "cached_keys",
        "smt_enabled",
    }
)
SHOWN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "open_enclave_header": frozenset({"version", "report_type", "report_size"}),
        "header": frozenset({"version", "att_key_type", "qe_svn", "pce_svn", "vendor_id", "user_data"}),
        "report_body": _BODY - {"mr_enclave", "mr_signer"},
        "qe_report": _BODY,
        "signature": frozenset({"signature_valid", "bound_to_qe_report", "auth_data"}),
        "certification": frozenset({"type", "size", "cpu_svn", "pce_svn", "pce_id"}),
        "pck_certificate": _NAMES | _PLATFORM | {"signs_qe_report"},
        "intermediate_certificate": _NAMES,
        "root_certificate": _NAMES | {"key_id", "platform"},
        "marks": frozenset({"found"}),
    }
)
"""By section of the anatomy: the fields that say nothing about which machine or tenant it was."""


def quote_section(data: bytes, root: TrustedRoot, now: datetime) -> Section:
    """Return what may be told of a quote.

    Args:
        data: the quote.
        root: the root of the verdict: Intel's.
        now: the time of the verdict.
    """
    anatomy = dissect(data)
    findings = [*_findings(anatomy)]
    verdict = verify_quote(data, root, None, Policy(), now)
    checks: list[Value] = [
        {"code": check.code, "status": check.status.value, "why": check.why}
        for check in verdict.checks
        if check.status is not CheckStatus.NOT_CHECKED
    ]
    if verdict.platform.value != "genuine":
        findings.append(
            Finding(
                code="quote-not-genuine",
                what="the quote does not lead to Intel's root with valid signatures: see the checks",
                do="send it if it was made on SGX hardware; a simulated platform's quote is of no use here",
            )
        )
    values: dict[str, Value] = {
        "size": anatomy.size,
        "anatomy": {section.key: _shown(section.key, section.fields) for section in anatomy.sections},
        "warnings": [*anatomy.warnings],
        "verdict": verdict.kind.value,
        "platform": verdict.platform.value,
        "checks": checks,
    }
    return Section("quote", values, tuple(findings), secrets_of(data))


def secrets_of(data: bytes) -> Secrets:
    """Return what identifies machine, key or tenant in a quote, as far as it can be read."""
    if has_open_enclave_header(data):
        data = strip_open_enclave_header(data)
    parts = [*_fixed_secrets(data)]
    numbers: list[int] = []
    try:
        quote = Quote.parse(data)
        signature = quote.signature
        key, size = signature.attestation_key, len(signature.attestation_key) // 2
        parts += [key, key[:size], key[size:], signature.isv_signature, signature.qe_report_signature]
        parts += [signature.pub_key_id, signature.qe_report_body.report_data]
        if signature.certification.kind in PPID_SIZES:
            parts.append(signature.certification.ppid_data().ppid)
        chain = PckChain.from_quote(quote)
        numbers += [certificate.serial_number for certificate in chain.certificates]
        parts += _leaf_secrets(chain.leaf)
    except MalformedError:
        pass  # the anatomy says so; what could be read is complete, and other fields are not shown
    return Secrets.of(*parts, numbers=numbers)


def _fixed_secrets(data: bytes) -> Iterator[bytes]:
    if len(data) >= QUOTE_HEADER_SIZE:
        user_data = QuoteHeader.parse(data[:QUOTE_HEADER_SIZE]).user_data
        yield from (user_data, user_data[:QE_ID_SIZE])
    if len(data) >= SIGNED_PART_SIZE:
        body = ReportBody.parse(data[QUOTE_HEADER_SIZE:SIGNED_PART_SIZE])
        half = len(body.report_data) // 2
        yield from (body.report_data, body.report_data[:half], body.report_data[half:], body.config_id)
        yield from (body.mr_enclave, body.mr_signer)


def _leaf_secrets(leaf: x509.Certificate) -> Iterator[bytes]:
    try:
        yield leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)[-64:]
        yield leaf.signature
    except UNREADABLE_X509:
        pass
    extension = PckExtension.from_certificate(leaf)
    yield extension.ppid
    if extension.platform_instance_id is not None:
        yield extension.platform_instance_id


def _findings(anatomy: Anatomy) -> Iterator[Finding]:
    if anatomy.stopped:
        yield Finding(
            code="quote-not-read",
            what=f"the file cannot be read as a quote, or only in part: {anatomy.stopped.what}",
            do=anatomy.stopped.remedy or "check that it is the quote alone: binary, hexadecimal or base64",
        )
    types = [
        field.value
        for section in anatomy.sections
        for field in section.fields
        if (section.key, field.key) == ("certification", "type")
    ]
    if any(kind in {1, 2, 3} for kind in types):
        yield Finding(
            code="quote-without-certificates",
            what=f"the quote has certification data of type {types[0]}: a PPID in place of certificates",
            do="install the quote provider library beside aesmd, and check that sgx_default_qcnl.conf is valid JSON",
        )


def _shown(section: str, fields: tuple[Field, ...]) -> dict[str, Value]:
    shown = SHOWN["intermediate_certificate" if section.startswith("intermediate_certificate") else section]
    return {field.key: _value(field) if field.key in shown else _redacted(field) for field in fields}


def _value(field: Field) -> Value:
    if field.key == "user_data" and isinstance(field.value, str):
        identity, rest = field.value[: 2 * QE_ID_SIZE], field.value[2 * QE_ID_SIZE :]
        zeros = "zeros" if not rest.strip("0") else redacted(len(rest) // 2)
        return f"{redacted(len(identity) // 2)}, then {zeros}"
    if field.key in {"not_before", "not_after"} and isinstance(field.value, str):
        return field.value[: len("2026-11-24")]
    return [*field.value] if isinstance(field.value, list) else field.value


def _redacted(field: Field) -> str:
    if field.key == "serial_number":
        return "redacted"
    return redacted(len(field.value) // 2) if isinstance(field.value, str) else "redacted"
