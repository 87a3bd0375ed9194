"""The simulated quoting enclave: it verifies a report made for it and signs the report's body as a quote."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec

from confcom.errors import SettingsError
from confcom.sgx import simulation_marks as marks
from confcom.sgx.certification import CertificationData, CertificationDataType
from confcom.sgx.quote import SIGNATURE_SIZE, SIGNED_PART_SIZE, EcdsaSignatureData, QuoteHeader, attestation_pub_key_id
from confcom.sgx.report import INTEL_QE_MRSIGNER, AttributeFlag, QeReportInfo, Report, report_data
from confcom.sgx.td_report import INTEL_TD_QE_MRSIGNER
from confcom.sgx.tee_type import TeeType
from confcom.simulation.enclave import ReportChecker, SimulatedEnclave
from confcom.simulation.keys import derive_private_key, public_point, sign
from confcom.simulation.pki import PCE_SVN, Pki

INTEL_QE_MRENCLAVES = frozenset(
    {
        bytes.fromhex("b08903e5d5e8d13128582a7b6746a8dd1f9718f05e26465a5aae58056a882562"),
        bytes.fromhex("d08a1ef2a01ff905050980140aa7d6ab1c06b27935cd0092ba20e3a876cad0c9"),
        bytes.fromhex("e5a3a7b5d830c2953b98534c6c59a3a34fdc34e933f7f5898f0a85cf08846bca"),
        bytes.fromhex("de1e1bbbc8edef08283e8ad51ce112b5b11af473050828543a0c73b914a33e71"),
        bytes.fromhex("b7ae9ab69e76f7794a56b0db1915281d435d488c91d406ed33a7939caf8730f8"),
    }
)
"""MRENCLAVE of the versions of Intel's QE and TD QE of which we have genuine quotes (tests/vectors/PROVENANCE.md). The
list may be incomplete: verifiers compare MRSIGNER, not MRENCLAVE, and the simulation never uses Intel's MRSIGNERs."""

_SIZE_FIELD = 4
"""Size in bytes of the length field between the signed part and the signature data."""


_QE_FLAGS = AttributeFlag.INITTED | AttributeFlag.MODE64BIT | AttributeFlag.PROVISION_KEY
"""The flags of Intel's QE: 0x15."""

DEFAULT_QE_IDENTITY = SimulatedEnclave(
    mr_enclave=hashlib.sha256(b"confcom simulated quoting enclave, version 1").digest(),
    mr_signer=hashlib.sha256(b"confcom simulated quoting enclave signer").digest(),
    flags=_QE_FLAGS,
    isv_prod_id=1,
    isv_svn=1,
)
"""The quoting enclave; an updated one has another MRENCLAVE or ISVSVN. ISVPRODID is that of Intel's QE, as in the QE
identity and in the attestation key id that clients ask for."""
DEFAULT_TD_QE_IDENTITY = replace(
    DEFAULT_QE_IDENTITY,
    mr_enclave=hashlib.sha256(b"confcom simulated TD quoting enclave, version 1").digest(),
    mr_signer=hashlib.sha256(b"confcom simulated TD quoting enclave signer").digest(),
    isv_prod_id=2,
)
DEFAULT_IDENTITIES = {TeeType.SGX: DEFAULT_QE_IDENTITY, TeeType.TDX: DEFAULT_TD_QE_IDENTITY}


def certify_attestation_key(
    seed: bytes, pki: Pki, enclave: SimulatedEnclave
) -> tuple[ec.EllipticCurvePrivateKey, EcdsaSignatureData]:
    """Derive a quoting enclave's attestation key, and certify it with the PCK.

    As on hardware, the key depends on the platform and on the QE's signer and SVN. So the key changes with the QE's
    SVN, but not with a restart or with MRENCLAVE alone. The returned signature data has zeros as the quote's signature.

    Raises:
        SettingsError: the enclave has the MRENCLAVE or the MRSIGNER of Intel's.
    """
    if enclave.mr_signer in {INTEL_QE_MRSIGNER, INTEL_TD_QE_MRSIGNER} or enclave.mr_enclave in INTEL_QE_MRENCLAVES:
        raise SettingsError(
            "a simulated quoting enclave cannot have the MRENCLAVE or the MRSIGNER of Intel's",
            error_code="intel-identity",
            why="its quotes would claim more than they are",
            remedy="choose any other 32 bytes",
        )
    label = f"attestation key of {enclave.mr_signer.hex()} {enclave.isv_prod_id} {enclave.isv_svn}"
    attestation_key = derive_private_key(seed, label)
    public_key = public_point(attestation_key)
    pub_key_id = attestation_pub_key_id(public_key, marks.QE_AUTH_DATA)
    qe_report_body = enclave.report_body(report_data(pub_key_id))
    chain = pki.pck.pem + pki.pck_ca.pem + pki.root.pem
    return attestation_key, EcdsaSignatureData(
        isv_signature=bytes(SIGNATURE_SIZE),
        attestation_key=public_key,
        qe_report_body=qe_report_body,
        qe_report_signature=sign(pki.pck.private_key, qe_report_body.encode()),
        auth_data=marks.QE_AUTH_DATA,
        certification=CertificationData(CertificationDataType.PCK_CERT_CHAIN, chain),
    )


@dataclass(frozen=True, slots=True)
class QuotingEnclave:
    """A certified quoting enclave. `load` makes all parts of a quote except the report and its signature."""

    enclave: SimulatedEnclave
    checker: ReportChecker = field(repr=False)
    attestation_key: ec.EllipticCurvePrivateKey = field(repr=False)
    pub_key_id: bytes
    """SHA-256 of attestation public key and authentication data; the QE's report contains it."""
    header: bytes
    after_signature: bytes
    """The quote's bytes from the attestation key to the end; they are the same in every quote."""

    @classmethod
    def load(cls, seed: bytes, pki: Pki, enclave: SimulatedEnclave = DEFAULT_QE_IDENTITY) -> Self:
        attestation_key, signature_data = certify_attestation_key(seed, pki, enclave)
        header = QuoteHeader(qe_svn=enclave.isv_svn, pce_svn=PCE_SVN, user_data=marks.HEADER_USER_DATA)
        checker = ReportChecker.of(enclave.target_info())
        pub_key_id, after_signature = signature_data.pub_key_id, signature_data.encode()[SIGNATURE_SIZE:]
        return cls(enclave, checker, attestation_key, pub_key_id, header.encode(), after_signature)

    @property
    def quote_size(self) -> int:
        """Exact size of every quote in bytes."""
        return SIGNED_PART_SIZE + _SIZE_FIELD + SIGNATURE_SIZE + len(self.after_signature)

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> tuple[bytes, QeReportInfo | None]:
        """Verify a report and sign its body unchanged; reports of DEBUG enclaves are accepted.

        If `qe_report_info` is given, it is returned with the QE's report, in the key layout of `report`.
        """
        key_format = self.checker.check(report)
        signed_part = self.header + report.encoded_body
        signature = sign(self.attestation_key, signed_part)
        size = (SIGNATURE_SIZE + len(self.after_signature)).to_bytes(_SIZE_FIELD, "little")
        quote = b"".join((signed_part, size, signature, self.after_signature))
        if qe_report_info is None:
            return quote, None
        qe_report = self.enclave.create_report(
            qe_report_info.app_enclave_target_info,
            report_data(hashlib.sha256(qe_report_info.nonce + quote).digest()),
            cpu_svn=report.cpu_svn,
            key_format=key_format,
        )
        answer = QeReportInfo(qe_report_info.nonce, qe_report_info.app_enclave_target_info, qe_report.encode())
        return quote, answer
