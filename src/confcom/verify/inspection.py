"""Output of `confcom inspect`: a quote's fields with labels and notes for people, without a verdict. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

from cryptography import x509

from confcom.errors import MalformedError, as_data, printable
from confcom.sgx.certificates import key_id, name_text
from confcom.sgx.certification import CertificationDataType
from confcom.sgx.key_id import ATT_KEY_TYPES
from confcom.sgx.pck.chain import (
    PckChain,
    attestation_key,
    attestation_key_is_bound,
    is_signed_by,
    qe_report_is_certified,
)
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.quote import (
    INTEL_QE_VENDOR_ID,
    SGX_QUOTE_VERSION,
    TYPED_BODY_VERSION,
    Quote,
    QuoteBody,
    QuoteHeader,
    body_type,
)
from confcom.sgx.report import INTEL_QE_MRSIGNER, AttributeFlag, ReportBody, attribute_names
from confcom.sgx.simulation_marks import SIMULATION_CPU_SVNS, root_is_marked
from confcom.sgx.td_report import INTEL_TD_QE_MRSIGNER, TdAttribute, TdReport10
from confcom.sgx.tee_type import TeeType
from confcom.verify.checks.marks import CertifyingMarks, present_marks
from confcom.verify.trust import Platform, platform_of
from confcom.verify.verdict import utc_text

Value = str | int | bool | list[str]

_PLATFORM_NOTES = {
    Platform.GENUINE: "Intel's SGX root, by its key; `confcom verify` checks whether it issued this chain",
    Platform.SIMULATED: "a simulated platform's root, by its own marks",
    Platform.UNKNOWN: "neither Intel's nor marked as simulated",
}
_SIGNER_NOTES = {
    INTEL_QE_MRSIGNER: "Intel's quoting enclave signer",
    INTEL_TD_QE_MRSIGNER: "Intel's TD quoting enclave signer",
}
_UNDERSCORED = ("tee_", "td_id", "dev_", "init_", "cur_")
"""Beginnings of the names of TD report fields that Intel writes with underscores."""


@dataclass(frozen=True, slots=True)
class Field:
    """One decoded value: `key` is for programs, `label` and `note` are for people."""

    key: str
    label: str
    value: Value
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a quote; sections follow the order of the quote's bytes."""

    key: str
    title: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Inspection:
    """The sections that could be read; `stopped` is the error that ended the reading, or None if all was read."""

    size: int
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    stopped: MalformedError | None = None

    def to_json(self) -> dict[str, object]:
        """Return plain values for `json.dumps`, in the format of `confcom inspect --output json`."""
        return {
            "size": self.size,
            "sections": {part.key: {one.key: one.value for one in part.fields} for part in self.sections},
            "warnings": list(self.warnings),
            "stopped": as_data(self.stopped) if self.stopped else None,
        }


def inspect_quote(data: bytes) -> Inspection:
    """Decode a quote as far as it can be read; malformed input does not raise."""
    items: list[Section | str] = []
    stopped = None
    try:
        items.extend(_sections_and_warnings(data))
    except MalformedError as error:
        stopped = error
    sections = tuple(item for item in items if isinstance(item, Section))
    warnings = tuple(item for item in items if isinstance(item, str))
    return Inspection(len(data), sections, warnings, stopped)


def _sections_and_warnings(data: bytes) -> Iterator[Section | str]:
    quote = Quote.parse(data)
    yield _header(quote.header)
    yield from _body(quote.header, quote.body)
    if isinstance(quote.body, TdReport10):
        if quote.body.debug:
            yield "TD under debug: its host can look into it; it proves nothing"
    elif quote.body.debug:
        yield "DEBUG enclave: its host can read and change its memory; it proves nothing"
    yield _signature_data(quote)
    yield from _report_body("qe_report", "Quoting enclave's report", quote.signature.qe_report_body)
    yield from _certification(quote)
    if quote.trailing:
        zeros = " zero" if not any(quote.trailing) else ""
        yield f"{len(quote.trailing)}{zeros} bytes follow the quote; nothing signs them"


def _body(header: QuoteHeader, body: QuoteBody) -> Iterator[Section]:
    if header.version == TYPED_BODY_VERSION:
        kind = body_type(body)
        size = Field("body_size", "body size", len(body.encode()))
        yield Section("body_type", "Body type", (Field("body_type", "body type", kind.value, kind.name), size))
    if isinstance(body, TdReport10):
        yield _td_report(body)
    else:
        yield from _report_body("report_body", "Enclave report (what is attested)", body)


def _td_report(body: TdReport10) -> Section:
    notes = {
        "td_attributes": ", ".join(attribute_names(body.td_attributes, TdAttribute)),
        "mr_signer_seam": "" if any(body.mr_signer_seam) else "Intel",
        "report_data": _as_text(body.report_data),
    }
    fields = []
    for name in (field.name for field in dataclass_fields(body)):
        label = (name if name.startswith(_UNDERSCORED) else name.replace("_", "")).upper()
        value, note = getattr(body, name), notes.get(name, "")
        if name.startswith("tee_tcb_svn"):
            note = f"TDX module version {value[1]}, SVN {value[0]}"
        elif name == "mr_service_td" and any(value):
            note = "a service TD, such as a migration TD, is bound"
        if isinstance(value, bytes):
            value = value.hex()
        elif name != "vmid":
            value = f"{value:016x}"
        fields.append(Field(name, label, value, note))
    fields.append(Field("debug", "debug", body.debug))
    return Section("td_report", "TD report (what is attested)", tuple(fields))


def _header(header: QuoteHeader) -> Section:
    vendor = "Intel's quoting enclave" if header.vendor_id == INTEL_QE_VENDOR_ID else "not Intel's"
    tee = next((tee.name for tee in TeeType if tee == header.tee_type), "unknown")
    fields = (
        Field("version", "version", header.version),
        Field("tee_type", "TEE type", header.tee_type, "reserved" if header.version == SGX_QUOTE_VERSION else tee),
        Field("att_key_type", "attestation key type", header.att_key_type, ATT_KEY_TYPES.get(header.att_key_type, "")),
        Field("qe_svn", "QE SVN", header.qe_svn),
        Field("pce_svn", "PCE SVN", header.pce_svn),
        Field("vendor_id", "QE vendor id", header.vendor_id.hex(), vendor),
        Field("user_data", "user data", header.user_data.hex(), _as_text(header.user_data)),
    )
    return Section("header", "Header", fields)


def _report_body(key: str, title: str, body: ReportBody) -> Iterator[Section]:
    signer = _SIGNER_NOTES.get(body.mr_signer, "")
    cpu = "Intel's SDK simulation mode, no processor" if body.cpu_svn in SIMULATION_CPU_SVNS else ""
    fields = [
        Field("mr_enclave", "MRENCLAVE", body.mr_enclave.hex()),
        Field("mr_signer", "MRSIGNER", body.mr_signer.hex(), signer),
        Field("isv_prod_id", "ISVPRODID", body.isv_prod_id),
        Field("isv_svn", "ISVSVN", body.isv_svn),
        Field("attributes", "attributes", f"{body.flags:016x}", ", ".join(attribute_names(body.flags))),
        Field("xfrm", "XFRM", f"{body.xfrm:016x}"),
        Field("misc_select", "MISCSELECT", f"{body.misc_select:08x}"),
        Field("cpu_svn", "CPUSVN", body.cpu_svn.hex(), cpu),
        Field("report_data", "report data", body.report_data.hex(), _as_text(body.report_data)),
        Field("debug", "debug", body.debug),
    ]
    if body.flags & AttributeFlag.KSS:
        fields += [
            Field("config_id", "CONFIGID", body.config_id.hex()),
            Field("config_svn", "CONFIGSVN", body.config_svn),
            Field("isv_ext_prod_id", "ISVEXTPRODID", body.isv_ext_prod_id.hex()),
            Field("isv_family_id", "ISVFAMILYID", body.isv_family_id.hex()),
        ]
    yield Section(key, title, tuple(fields))


def _signature_data(quote: Quote) -> Section:
    signature = quote.signature
    signed = is_signed_by(attestation_key(quote), signature.isv_signature, quote.signed_part)
    bound = attestation_key_is_bound(quote)
    fields = (
        Field("attestation_key", "attestation key", signature.attestation_key.hex()),
        Field("signature_valid", "signs header and report", signed, "" if signed else "the quote was altered"),
        Field("bound_to_qe_report", "is named by the QE's report", bound, "" if bound else "the key was exchanged"),
        Field("auth_data", "QE authentication data", signature.auth_data.hex(), _as_text(signature.auth_data)),
    )
    return Section("signature", "Signature data", fields)


def _certification(quote: Quote) -> Iterator[Section | str]:
    certification = quote.signature.certification
    name = certification.kind.name if certification.kind else "not named in Intel's documents"
    fields = [Field("type", "type", certification.type, name), Field("size", "size", len(certification.data))]
    if quote.header.version != SGX_QUOTE_VERSION:
        outer = CertificationDataType.QE_REPORT_CERTIFICATION_DATA
        fields.insert(0, Field("outer_type", "is inside type", outer.value, outer.name))
    if ppid := certification.ppid_data():
        encrypted = certification.kind is not CertificationDataType.PPID_CLEARTEXT
        fields += [
            Field("ppid", "encrypted PPID" if encrypted else "PPID", ppid.ppid.hex()),
            Field("cpu_svn", "CPUSVN", ppid.cpu_svn.hex()),
            Field("pce_svn", "PCE SVN", ppid.pce_svn),
            Field("pce_id", "PCE id", ppid.pce_id),
        ]
        yield "no certificates in it: a verifier must first fetch the PCK certificate for this PPID and TCB"
    yield Section("certification", "Certification data", tuple(fields))
    chain, extension = None, None
    if certification.kind is CertificationDataType.PCK_CERT_CHAIN:
        chain = PckChain.from_quote(quote)
        extension = chain.extension()
        yield from _certificates(quote, chain, extension)
    marks = sorted(present_marks(quote, CertifyingMarks.of(quote.signature, chain, extension)))
    note = "a mark only lowers trust; missing marks do not prove hardware" if marks else "which is no proof of hardware"
    yield Section("marks", "Marks of simulation", (Field("found", "found", [*marks], note),))


def _certificates(quote: Quote, chain: PckChain, extension: PckExtension | MalformedError) -> Iterator[Section | str]:
    certified = qe_report_is_certified(quote, chain.leaf)
    note = "" if certified else "another platform's certificate, or the report was altered"
    pck = Field("signs_qe_report", "signs the QE's report", certified, note)
    yield Section("pck_certificate", "PCK certificate (leaf)", (*_certificate(chain.leaf), pck, *_platform(extension)))
    for number, intermediate in enumerate(chain.intermediates, start=1):
        key = "intermediate_certificate" if number == 1 else f"intermediate_certificate_{number}"
        yield Section(key, "Intermediate certificate", tuple(_certificate(intermediate)))
    if chain.root is None:
        yield "the chain lacks its root certificate"
        return
    platform = platform_of(key_id(chain.root), root_is_marked=root_is_marked(chain.root))
    kind = Field("platform", "whose root", platform.value, _PLATFORM_NOTES[platform])
    fields = (*_certificate(chain.root), Field("key_id", "key id (SHA-384)", key_id(chain.root).hex()), kind)
    yield Section("root_certificate", "Root certificate", fields)


def _certificate(certificate: x509.Certificate) -> Iterator[Field]:
    yield Field("subject", "subject", name_text(certificate.subject))
    yield Field("issuer", "issuer", name_text(certificate.issuer))
    yield Field("not_before", "valid from", utc_text(certificate.not_valid_before_utc))
    yield Field("not_after", "valid to", utc_text(certificate.not_valid_after_utc))
    yield Field("serial_number", "serial number", f"{certificate.serial_number:x}")


def _platform(extension: PckExtension | MalformedError) -> Iterator[Field]:
    if isinstance(extension, MalformedError):
        yield Field("sgx_extension", "SGX extension", "unreadable", printable(str(extension)))
        return
    yield Field("fmspc", "FMSPC", extension.fmspc.hex(), _as_text(extension.fmspc))
    yield Field("pce_id", "PCE id", extension.pce_id.hex())
    yield Field("ppid", "PPID", extension.ppid.hex(), _as_text(extension.ppid))
    components = " ".join(str(svn) for svn in extension.tcb.components)
    yield Field("tcb_components", "TCB components", components, "16 SVNs of microcode and firmware")
    yield Field("tcb_pce_svn", "PCE SVN", extension.tcb.pce_svn)
    yield Field("sgx_type", "SGX type", extension.sgx_type.name.lower().replace("_", " "))
    if (instance := extension.platform_instance_id) is not None and (own := extension.configuration):
        yield Field("platform_instance_id", "platform instance id", instance.hex(), _as_text(instance))
        yield Field("dynamic_platform", "dynamic platform", own.dynamic_platform)
        yield Field("cached_keys", "cached keys", own.cached_keys)
        yield Field("smt_enabled", "SMT enabled", own.smt_enabled)


def _as_text(data: bytes) -> str:
    """Return bytes without trailing zeros as text in quotation marks if they are printable ASCII, else ""."""
    text = data.rstrip(b"\0").decode("latin-1")
    return f'"{text}"' if text and text.isascii() and text.isprintable() else ""
