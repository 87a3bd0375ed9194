"""Good evidence to mutate: simulated and genuine quotes, with collateral, root and a policy that accepts them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.binary import SEQUENCE, der_element
from confcom.sgx.certification import CertificationData, CertificationDataType
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.sgx.report import ReportBody
from confcom.sgx.signed_json import SignedJson
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.keys import sign
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.simulated_collateral import Validity, create_crl
from confcom.verify import (
    INTEL,
    Collateral,
    KnownRoot,
    SgxPolicy,
    TdxPolicy,
    TrustedRoot,
    Verdict,
    read_collateral,
    verify,
)
from testkit.verify.td_lab import BODIES, TdxLab
from testkit.verify.verify_lab import Lab

VECTORS: Final = Path(__file__).parents[1] / "tests" / "vectors"
CHALLENGE: Final = bytes(range(64))
SIMULATED_NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
GENUINE_NOW: Final = {
    "sgx_quote": datetime(2025, 7, 1, tzinfo=UTC),
    "tdx_quote": datetime(2025, 7, 1, tzinfo=UTC),
    "tdx_quote_outdated": datetime(2026, 3, 1, tzinfo=UTC),
    "tdx_quote_td15ex": datetime(2026, 10, 20, tzinfo=UTC),
}
"""Times at which the genuine collateral is current (tests/vectors/PROVENANCE.md)."""
SIGNED_PARTS: Final = ("tcb_info", "qe_identity")
CRLS: Final = ("pck_crl", "root_ca_crl")
_BIT_STRING: Final = 0x03


@dataclass(frozen=True, slots=True)
class GoodEvidence:
    """A quote, and everything with which `verify` accepts it."""

    quote: bytes
    collateral: Collateral
    root: TrustedRoot | KnownRoot
    policy: SgxPolicy | TdxPolicy
    now: datetime

    @classmethod
    def genuine(cls, name: str = "sgx_quote") -> Self:
        folder = VECTORS / "genuine-quotes"
        quote = (folder / name).read_bytes()
        body = Quote.parse(quote).body
        demands: dict[str, Any] = {"report_data": body.report_data}
        demands["accepted_tcb_statuses"] = ["UpToDate", "ConfigurationAndSWHardeningNeeded"]
        policy = (
            SgxPolicy(mr_enclave=body.mr_enclave, **demands)
            if isinstance(body, ReportBody)
            else TdxPolicy(mr_td=body.mr_td, **demands)
        )
        return cls(quote, read_collateral(folder / f"{name}_collateral.json"), INTEL, policy, GENUINE_NOW[name])

    def verdict(self, quote: bytes | None = None, **parts: bytes) -> Verdict[Any]:
        """Verify with another quote, or with other parts of the collateral."""
        collateral = replace(self.collateral, **parts) if parts else self.collateral
        return verify(self.quote if quote is None else quote, self.policy, collateral, self.root, self.now)


@dataclass(frozen=True, slots=True)
class SimulatedEvidence(GoodEvidence):
    """Evidence whose keys are at hand, so that mutated parts can be signed again and pass the signature checks."""

    platform: SimulatedPlatform
    enclave: SimulatedEnclave

    @classmethod
    def create(cls) -> Self:
        platform = SimulatedPlatform.create(bytes(32), SIMULATED_NOW)  # its keys protect nothing
        enclave = SimulatedEnclave.from_name("fuzzed")
        return cls(
            quote=_quote(platform, enclave, CHALLENGE),
            collateral=Collateral.from_files(platform.collateral(SIMULATED_NOW).to_files()),
            root=TrustedRoot.load(platform.pki.root.der),
            policy=SgxPolicy(mr_enclave=enclave.mr_enclave, report_data=CHALLENGE, allow_simulated=True),
            now=SIMULATED_NOW,
            platform=platform,
            enclave=enclave,
        )

    @classmethod
    def of_a_td(cls, kind: str) -> Self:
        lab = TdxLab()
        found = lab.evidence(codec=BODIES[kind])
        return cls(found.quote, found.collateral, found.trusted, lab.policy, found.now, lab.platform, lab.enclave)

    def quote_for(self, report_data: bytes) -> bytes:
        return _quote(self.platform, self.enclave, report_data)

    def signed_quote(self, quote: Quote) -> bytes:
        """Return the quote's header and body under this platform's attestation key and certificates."""
        signature = Quote.parse(self.quote).signature
        lab = Lab if isinstance(self.policy, SgxPolicy) else TdxLab
        key = lab(self.platform).attestation_key
        signature = replace(signature, isv_signature=sign(key, quote.signed_part))
        return replace(quote, signature=signature, trailing=b"").encode()

    def with_certification(self, certification: CertificationData) -> bytes:
        quote = Quote.parse(self.quote)
        return replace(quote, signature=replace(quote.signature, certification=certification)).encode()

    def with_leaf(self, leaf: bytes) -> bytes:
        """Return the quote with another first certificate, in DER."""
        return self.with_certification(chain_of(leaf, self.platform.pki.pck_ca.der, self.platform.pki.root.der))

    def signed_leaf(self, certificate: x509.Certificate) -> bytes:
        return signed_again(certificate.tbs_certificate_bytes, self.platform.pki.pck_ca.private_key)

    def signed_crl(self, part: str, crl: x509.CertificateRevocationList) -> bytes:
        pki = self.platform.pki
        return signed_again(crl.tbs_certlist_bytes, (pki.root if part == "root_ca_crl" else pki.pck_ca).private_key)

    def crl(self, *, revoked: int) -> bytes:
        """Return a current revocation list of the PCK's CA with one serial number."""
        begin = self.now - timedelta(days=1)
        end = begin + timedelta(days=30)
        crl = create_crl(self.platform.pki.pck_ca, Validity(begin, end), (revoked,))
        return crl.public_bytes(Encoding.DER)

    def signed_document(self, signed: SignedJson) -> bytes:
        return replace(signed, signature=sign(self.platform.pki.tcb_signer.private_key, signed.body)).encode()


def _quote(platform: SimulatedPlatform, enclave: SimulatedEnclave, report_data: bytes) -> bytes:
    quoting_enclave = platform.quoting_enclave()
    return quoting_enclave.quote(enclave.create_report(quoting_enclave.checker.target, report_data), None)[0]


def chain_of(*ders: bytes) -> CertificationData:
    return CertificationData(CertificationDataType.PCK_CERT_CHAIN, b"".join(map(pem_of, ders)))


def pem_of(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def signed_again(to_be_signed: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate or revocation list, DER, with an ECDSA-SHA256 signature of this key over its content."""
    signature = key.sign(to_be_signed, ec.ECDSA(hashes.SHA256()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256 (RFC 5758, 3.2)
    return der_element(SEQUENCE, to_be_signed + algorithm + der_element(_BIT_STRING, b"\0" + signature))


def meaning(quote: bytes) -> tuple[Quote, tuple[bytes, ...]]:
    """Return what a quote says: all but the white space around and between the lines of its certificates."""
    parsed = Quote.parse(quote)
    certificates = tuple(one.public_bytes(Encoding.DER) for one in PckChain.from_quote(parsed).certificates)
    unread = replace(parsed.signature.certification, data=b"")
    return replace(parsed, signature=replace(parsed.signature, certification=unread)), certificates
