"""Parsing and encoding of ECDSA quotes: version 3 is of SGX, and versions 4 and 5 are of TDX or SGX.

An SGX enclave makes the quotes of TDX too, and an SGX PCK certifies its key: only the bodies of the quotes differ.

Layouts: sgx_quote3_t and sgx_ql_ecdsa_sig_data_t in Intel's sgx_quote_3.h, and their successors in sgx_quote_4.h and
sgx_quote_5.h. Integers are little-endian; signatures (r, s) and public keys (X, Y) are pairs of 32-byte big-endian
numbers.
"""

import hashlib
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

from confcom.errors import MalformedError
from confcom.sgx.binary import ByteReader, Layout, Structure, require_length, require_range
from confcom.sgx.certification import CertificationData, CertificationDataType
from confcom.sgx.key_id import ATT_KEY_TYPES, AttKeyAlgorithm
from confcom.sgx.report import REPORT_BODY_SIZE, ReportBody
from confcom.sgx.td_report import TdReport10, TdReport15, TdReport15Ex
from confcom.sgx.tee_type import TeeType

SGX_QUOTE_VERSION = 3
"""The only version of SGX quotes that can be verified, since dcap-qvl refuses SGX quotes of later versions."""
TDX_QUOTE_VERSION = 4
TYPED_BODY_VERSION = 5
"""The version in which the body's type and size precede the body."""
QUOTE_VERSIONS = (SGX_QUOTE_VERSION, TDX_QUOTE_VERSION, TYPED_BODY_VERSION)
QUOTE_HEADER_SIZE = 48
SIGNED_PART_SIZE = QUOTE_HEADER_SIZE + REPORT_BODY_SIZE
"""Bytes of header and report body in an SGX quote of version 3."""
REPORT_BODY = slice(QUOTE_HEADER_SIZE, SIGNED_PART_SIZE)
"""Position of the report body in an SGX quote of version 3."""
SIGNATURE_SIZE = 64
PUBLIC_KEY_SIZE = 64
MAX_AUTH_DATA_SIZE = 0xFFFF

INTEL_QE_VENDOR_ID = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""The only vendor id that verifiers accept, UUID 939a7233-f79c-4ca9-940a-0db3957f0607 (sgx_quote_3.h)."""

_EPID_VERSIONS = (1, 2)

_STUB_VERSION = 2
_STUB_SVNS_AND_GROUP = b"\xef\x00\xef\x00\xef\xef\xef\xef"
"""Bytes 8 to 15 of the placeholder that the simulation libraries of Intel's SDK return instead of a quote:
SVN of QE and PCE, and the extended EPID group (sdk/simulation/uae_service_sim/quoting_sim.cpp). No quoting
enclave uses these values."""


class BodyType(IntEnum):
    """Values of the body type that quotes of version 5 declare (sgx_quote_5.h)."""

    SGX_ENCLAVE_REPORT = 1
    TD_REPORT_1_0 = 2
    TD_REPORT_1_5 = 3
    TD_REPORT_1_5_EX = 4


QuoteBody = ReportBody | TdReport10
_BODIES: dict[BodyType, type[QuoteBody]] = {
    BodyType.SGX_ENCLAVE_REPORT: ReportBody,
    BodyType.TD_REPORT_1_0: TdReport10,
    BodyType.TD_REPORT_1_5: TdReport15,
    BodyType.TD_REPORT_1_5_EX: TdReport15Ex,
}
_SGX_BODIES, _TD_BODIES = tuple(BodyType)[:1], tuple(BodyType)[1:]


@dataclass(frozen=True, slots=True)
class QuoteHeader(Structure):
    """The first 48 bytes of a quote. The attestation key signs the header together with the body."""

    version: int = SGX_QUOTE_VERSION
    att_key_type: int = AttKeyAlgorithm.ECDSA_P256
    tee_type: int = TeeType.SGX
    """The kind of TEE; reserved in version 3, whose quotes are always of SGX."""
    qe_svn: int = 0
    pce_svn: int = 0
    vendor_id: bytes = INTEL_QE_VENDOR_ID
    user_data: bytes = bytes(20)
    """Bytes that the quoting enclave chooses; Intel's QE writes its QE id (16 bytes) and four zeros."""


QuoteHeader.layout = Layout("a quote header", fields(QuoteHeader), "H H I H H 16s 20s")


@dataclass(frozen=True, slots=True)
class EcdsaSignatureData:
    """A quote's signature data: the attestation key signed the quote, and the PCK signed the QE's report."""

    isv_signature: bytes
    """r and s of the attestation key's signature over the quote's signed part: header and body."""
    attestation_key: bytes
    """X and Y of a point on P-256."""
    qe_report_body: ReportBody
    qe_report_signature: bytes
    """r and s of the PCK's signature over the QE's report body."""
    auth_data: bytes
    certification: CertificationData

    @classmethod
    def parse(cls, data: bytes, version: int = SGX_QUOTE_VERSION) -> Self:
        """Parse signature data; since version 4, all after the key is in certification data of type 6."""
        reader = ByteReader(data, "the quote's signature data")
        isv_signature = reader.take(SIGNATURE_SIZE, "the signature of header and body")
        attestation_key = reader.take(PUBLIC_KEY_SIZE, "the attestation key")
        if version != SGX_QUOTE_VERSION:
            reader = _qe_report_certification(reader)
        parsed = cls(
            isv_signature=isv_signature,
            attestation_key=attestation_key,
            qe_report_body=ReportBody.parse(reader.take(REPORT_BODY_SIZE, "the QE report body")),
            qe_report_signature=reader.take(SIGNATURE_SIZE, "the QE report's signature"),
            auth_data=reader.take(reader.integer(2, "the QE authentication data's size"), "the QE authentication data"),
            certification=CertificationData.read(reader),
        )
        reader.finish()
        return parsed

    def encode(self, version: int = SGX_QUOTE_VERSION) -> bytes:
        require_length(self.isv_signature, SIGNATURE_SIZE, "a signature of header and body")
        require_length(self.attestation_key, PUBLIC_KEY_SIZE, "an attestation key")
        require_length(self.qe_report_signature, SIGNATURE_SIZE, "a QE report's signature")
        require_range(len(self.auth_data), MAX_AUTH_DATA_SIZE, "the QE authentication data's size")
        auth_data = len(self.auth_data).to_bytes(2, "little") + self.auth_data
        qe_report = self.qe_report_body.encode() + self.qe_report_signature
        certifying = qe_report + auth_data + self.certification.encode()
        if version != SGX_QUOTE_VERSION:
            certifying = CertificationData(CertificationDataType.QE_REPORT_CERTIFICATION_DATA, certifying).encode()
        return self.isv_signature + self.attestation_key + certifying

    @property
    def pub_key_id(self) -> bytes:
        """The attestation key's id: InitQuoteEx returns it, and the QE's report data must begin with it."""
        return attestation_pub_key_id(self.attestation_key, self.auth_data)


def attestation_pub_key_id(attestation_key: bytes, auth_data: bytes) -> bytes:
    """Return the first half of the QE's report data, which binds the key (64 bytes, X and Y)."""
    return hashlib.sha256(attestation_key + auth_data).digest()


def _qe_report_certification(reader: ByteReader) -> ByteReader:
    offset, outer = reader.offset, CertificationData.read(reader)
    reader.finish()
    expected = CertificationDataType.QE_REPORT_CERTIFICATION_DATA
    if outer.type != expected:
        raise MalformedError(
            f"signature data with certification data of type {outer.type} cannot be read",
            error_code="unsupported-certification-type",
            why=f"byte {offset} declares it; since version 4 it is type {expected.value}, which contains the QE report",
            remedy="check that the quote was not altered",
        )
    return ByteReader(outer.data, "the QE report certification data")


def read_body(reader: ByteReader, header: QuoteHeader) -> QuoteBody:
    """Read the body that follows the header; in version 5, the body's type and size precede the body."""
    if header.version != TYPED_BODY_VERSION:
        codec = _BODIES[_body_types(header)[0]]
        return codec.parse(reader.take(codec.layout.size, "the report body"))
    number, declared = reader.integer(2, "the body type"), reader.integer(4, "the body size")
    _require_body_type(header, number)
    codec = _BODIES[BodyType(number)]
    if declared != (size := codec.layout.size):
        raise MalformedError(
            f"a quote whose body has {declared} bytes instead of {size} cannot be read",
            error_code="wrong-size",
            why=f"byte {QUOTE_HEADER_SIZE + 2} declares the body size, and bodies of type {number} have {size} bytes",
            remedy="check that the quote was not altered",
        )
    return codec.parse(reader.take(size, "the report body"))


def tee_of(body: QuoteBody) -> TeeType:
    return TeeType.SGX if isinstance(body, ReportBody) else TeeType.TDX


def body_type(body: QuoteBody) -> BodyType:
    return next(kind for kind, codec in _BODIES.items() if codec is type(body))


def _body_types(header: QuoteHeader) -> tuple[BodyType, ...]:
    """Return the types of body that quotes with this version and TEE type can have."""
    if header.tee_type == TeeType.SGX:
        return _SGX_BODIES
    if header.tee_type != TeeType.TDX or header.version == SGX_QUOTE_VERSION:
        raise MalformedError(
            f"a quote with TEE type 0x{header.tee_type:x} cannot be read",
            error_code="unsupported-tee-type",
            why="byte 4 declares it; 0 is SGX, and 0x81 is TDX, which begins with version 4",
            remedy="check that the quote was not altered",
        )
    return _TD_BODIES if header.version == TYPED_BODY_VERSION else _TD_BODIES[:1]


def _require_body_type(header: QuoteHeader, number: int) -> None:
    if number not in (known := _body_types(header)):
        raise MalformedError(
            f"a quote of version {header.version} and TEE type 0x{header.tee_type:x} has no body of type {number}",
            error_code="unsupported-body-type",
            why=f"its type can be {', '.join(map(str, known))}; byte {QUOTE_HEADER_SIZE} declares it",
            remedy="check that the quote was not altered; a newer type of body needs a newer confcom",
        )


@dataclass(frozen=True, slots=True)
class QuoteFrame:
    """A quote whose signature data is not parsed, and the bytes after the quote."""

    header: QuoteHeader
    body: QuoteBody
    signed_part: bytes
    """The quote's bytes from the header to the body's end, which the attestation key signs."""
    signature_data: bytes
    trailing: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse header and body of a quote with an ECDSA P-256 signature. The signature data stay unparsed."""
        _require_version(data)
        reader = ByteReader(data, "the quote")
        header = QuoteHeader.parse(reader.take(QUOTE_HEADER_SIZE, "the header"))
        if header.att_key_type != AttKeyAlgorithm.ECDSA_P256:
            name = ATT_KEY_TYPES.get(header.att_key_type)
            raise MalformedError(
                f"a quote with attestation key type {header.att_key_type} is not supported",
                error_code="unsupported-key-type",
                why=f"type {header.att_key_type} is {name}" if name else "this type is unknown",
                remedy=f"ask for type {AttKeyAlgorithm.ECDSA_P256.value}, ECDSA P-256",
            )
        body = read_body(reader, header)
        signed_part = data[: reader.offset]
        signature_size = reader.integer(4, "the signature data's size")
        if signature_size == 0 and header.version == SGX_QUOTE_VERSION:
            raise _sdk_stub("its signature data is declared empty, as Intel's libsgx_quote_ex_sim leaves it")
        signature_data = reader.take(signature_size, "the signature data")
        return cls(header, body, signed_part, signature_data, data[reader.offset :])

    @property
    def size(self) -> int:
        """Size of the quote in bytes, without trailing bytes."""
        return len(self.signed_part) + 4 + len(self.signature_data)

    @property
    def isv_signature(self) -> bytes:
        """The attestation key's signature (r, s) over the signed part."""
        return self.signature_data[:SIGNATURE_SIZE]

    @property
    def certifying_part(self) -> bytes:
        """The signature data after the first signature; it is equal in all quotes of one attestation key."""
        return self.signature_data[SIGNATURE_SIZE:]


@dataclass(frozen=True, slots=True)
class Quote:
    header: QuoteHeader
    body: QuoteBody
    signature: EcdsaSignatureData
    trailing: bytes = b""
    """Bytes after the quote. AESM pads quotes with zeros to the size of the client's buffer, and some clients
    keep the zeros."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse a quote signed with ECDSA P-256; each size that it declares is checked against the data."""
        frame = QuoteFrame.parse(data)
        signature = EcdsaSignatureData.parse(frame.signature_data, frame.header.version)
        return cls(frame.header, frame.body, signature, frame.trailing)

    def encode(self) -> bytes:
        signature = self.signature.encode(self.header.version)
        return self.signed_part + len(signature).to_bytes(4, "little") + signature + self.trailing

    @property
    def signed_part(self) -> bytes:
        """Header and body (in version 5 with the body's type and size), which the attestation key signs."""
        kind, body, typed = body_type(self.body), self.body.encode(), b""
        _require_body_type(self.header, kind)
        if self.header.version == TYPED_BODY_VERSION:
            typed = kind.to_bytes(2, "little") + len(body).to_bytes(4, "little")
        return self.header.encode() + typed + body


def _require_version(data: bytes) -> None:
    """Reject every other format or version with a specific error, before lengths of known versions are checked."""
    version = ByteReader(data, "the quote").integer(2, "the version")
    if version in QUOTE_VERSIONS:
        return
    if version == _STUB_VERSION and data[8:16] == _STUB_SVNS_AND_GROUP:
        raise _sdk_stub(
            "the program is linked with -lsgx_quote_ex_sim or -lsgx_uae_service_sim, which report success without "
            "calling a quoting service; their output is unsigned"
        )
    if not any(data):
        raise _sdk_stub("these are zeros, as a buffer has after -lsgx_quote_ex_sim reported success and wrote nothing")
    older = "EPID quotes have this version, and EPID attestation ended in 2025"
    if version == 1:
        older += "; reports of Open Enclave have it too: take off the 16 bytes before the quote"
    raise MalformedError(
        f"a quote of version {version} cannot be read",
        error_code="unsupported-quote-version",
        why=older if version in _EPID_VERSIONS else "no quote has this version: these bytes are probably not a quote",
        remedy="pass a quote of SGX (version 3) or TDX (version 4 or 5)",
    )


def _sdk_stub(why: str) -> MalformedError:
    return MalformedError(
        "this is no quote: a simulation library of Intel's SDK stood in for the service that makes quotes",
        error_code="sdk-stub-quote",
        why=why,
        remedy="link -lsgx_quote_ex, also in simulation mode, and run the quote helper",
    )
