"""A simulated platform laid open: every part of a quote and its collateral can be replaced and signed again."""

import json
import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.certification import CertificationData, CertificationDataType
from confcom.sgx.quote import Quote
from confcom.sgx.report import ReportBody
from confcom.sgx.tee_type import TeeType
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.keys import derive_private_key, sign
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.simulated_collateral import Validity, create_crl, sign_document
from confcom.verify.checks.dcap_qvl_appraisal import Appraiser
from confcom.verify.prepared_collateral import Collateral
from confcom.verify.sgx_policy import SgxPolicy
from confcom.verify.trust import TrustedRoot
from confcom.verify.verifier import verify_quote
from testkit.programs import run_confcom

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SEED = bytes(range(32))
CHALLENGE = bytes(range(64))
OTHER_KEY = derive_private_key(SEED, "a stranger's key")


def failed_codes(verdict):
    return [check.code for check in verdict.failures]


def check_of(verdict, code):
    (found,) = [check for check in verdict.checks if check.code == code]
    return found


def failed_in(result):
    """Codes of the failed checks in the JSON of `confcom verify`."""
    return [check["code"] for check in json.loads(result.stdout)["checks"] if check["status"] == "failed"]


def run_verify(folder, *arguments, **options):
    """Run `confcom verify` beside the files that `Evidence.write` wrote; later arguments replace earlier ones."""
    files = ("--root", folder / "root.pem", "--collateral", folder / "collateral", "--at", NOW.isoformat())
    return run_confcom("verify", *files, *arguments, **options)


@dataclass(frozen=True)
class Evidence:
    quote: bytes
    root: x509.Certificate
    collateral: Collateral
    now: datetime = NOW

    @property
    def parsed(self):
        return Quote.parse(self.quote)

    def verdict(self, policy):
        return verify_quote(self.quote, self.trusted, self.collateral, policy, self.now)

    @property
    def trusted(self):
        return TrustedRoot.load(self.root.public_bytes(Encoding.DER))

    def appraisal(self):
        """dcap-qvl's verdict."""
        return Appraiser(self.trusted.der, self.collateral, self.collateral.read()).appraise(self.quote, self.now)

    def write(self, directory):
        """Write quote, root and collateral as a relying party has them: `q.bin`, `root.pem`, `collateral/`."""
        (directory / "q.bin").write_bytes(self.quote)
        (directory / "root.pem").write_bytes(self.root.public_bytes(Encoding.PEM))
        (directory / "collateral").mkdir()
        for name, data in self.collateral.to_files().items():
            (directory / "collateral" / name).write_bytes(data)
        return directory

    def with_collateral(self, **changes):
        return replace(self, collateral=replace(self.collateral, **changes))


@dataclass(frozen=True)
class Lab:
    """One platform and its keys, and keys of a stranger."""

    platform: SimulatedPlatform = field(default_factory=lambda: SimulatedPlatform.create(SEED, NOW))
    stranger: SimulatedPlatform = field(default_factory=lambda: SimulatedPlatform.create(SEED[::-1], NOW))
    enclave: SimulatedEnclave = field(default_factory=lambda: SimulatedEnclave.from_name("app"))
    tee = TeeType.SGX

    @property
    def policy(self):
        return SgxPolicy(mr_enclave=self.enclave.mr_enclave, report_data=CHALLENGE, allow_simulated=True)

    @property
    def attestation_key(self):
        return self.platform.quoting_enclave().attestation_key

    def quote(self, report_data=CHALLENGE, *, platform=None, enclave=None):
        quoting_enclave = (platform or self.platform).quoting_enclave()
        report = (enclave or self.enclave).create_report(quoting_enclave.checker.target, report_data)
        return quoting_enclave.quote(report, None)[0]

    def collateral(self, now=NOW, *, platform=None, **staging):
        made = (platform or self.platform).collateral(now, tee=self.tee, **staging)
        return Collateral.from_files(made.to_files())

    def evidence(self, *of, platform=None, **quoted):
        quote, collateral = self.quote(*of, platform=platform, **quoted), self.collateral(platform=platform)
        return Evidence(quote, (platform or self.platform).pki.root.certificate, collateral)

    def edit_signed(self, evidence, *, header=None, body=None):
        """Change header or report body, and sign with the real attestation key."""
        quote = evidence.parsed
        quote = replace(quote, header=replace(quote.header, **(header or {})), body=replace(quote.body, **(body or {})))
        return self.sign_again(evidence, quote)

    def td_quote(self, evidence, version, body):
        """A quote with the body of a TD, under the keys of the SGX platform."""
        header = replace(evidence.parsed.header, version=version, tee_type=TeeType.TDX)
        return self.sign_again(evidence, replace(evidence.parsed, header=header, body=body))

    def sign_again(self, evidence, quote):
        signature = replace(quote.signature, isv_signature=sign(self.attestation_key, quote.signed_part))
        return replace(evidence, quote=replace(quote, signature=signature).encode())

    def edit_signature(self, evidence, **changes):
        """Change parts of the signature data without a new signature."""
        quote = evidence.parsed
        return replace(evidence, quote=replace(quote, signature=replace(quote.signature, **changes)).encode())

    def edit_qe_report(self, evidence, auth_data=None, **changes):
        """Change the quoting enclave's report, and sign it with the real PCK."""
        quote = evidence.parsed
        if auth_data is not None:
            signature = replace(quote.signature, auth_data=auth_data)
            changes = {"report_data": signature.pub_key_id + bytes(32), **changes}
        else:
            signature = quote.signature
        report: ReportBody = replace(signature.qe_report_body, **changes)
        pck = self.platform.pki.pck.private_key
        signature = replace(signature, qe_report_body=report, qe_report_signature=sign(pck, report.encode()))
        return replace(evidence, quote=replace(quote, signature=signature).encode())

    def with_chain(self, evidence, *certificates):
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
        data = CertificationData(CertificationDataType.PCK_CERT_CHAIN, pem)
        return self.edit_signature(evidence, certification=data)

    def with_edited_certificate(self, evidence, number, edit):
        """Change the DER of one certificate of the chain without a new signature."""
        ders = [certificate.public_bytes(Encoding.DER) for certificate in self.chain]
        ders[number] = edit(ders[number])
        pem = b"".join(ssl.DER_cert_to_PEM_cert(der).encode("ascii") for der in ders)
        data = CertificationData(CertificationDataType.PCK_CERT_CHAIN, pem)
        return self.edit_signature(evidence, certification=data)

    @property
    def chain(self):
        pki = self.platform.pki
        return pki.pck.certificate, pki.pck_ca.certificate, pki.root.certificate

    def reissue(
        self,
        original,
        issuer,
        *,
        signer=None,
        common_name=None,
        organization=None,
        not_before=None,
        not_after=None,
        without=None,
        replacing=None,
        adding=None,
        critical=False,
        serial_number=None,
    ):
        """The certificate for the same key again, with one difference."""
        certificate = original.certificate
        names = {x509.NameOID.COMMON_NAME: common_name, x509.NameOID.ORGANIZATION_NAME: organization}
        subject = x509.Name([x509.NameAttribute(a.oid, names.get(a.oid) or str(a.value)) for a in certificate.subject])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if original is issuer else issuer.certificate.subject)
            .public_key(certificate.public_key())
            .serial_number(serial_number or certificate.serial_number)
            .not_valid_before(not_before or certificate.not_valid_before_utc)
            .not_valid_after(not_after or certificate.not_valid_after_utc)
        )
        for extension in certificate.extensions:
            if extension.oid == without:
                continue
            value = replacing if replacing is not None and extension.oid == replacing.oid else extension.value
            builder = builder.add_extension(value, extension.critical)
        if adding is not None:
            builder = builder.add_extension(adding, critical)
        return builder.sign(signer or issuer.private_key, hashes.SHA256(), ecdsa_deterministic=True)

    def edit_json(self, evidence, part, edit, *, key=None, sign_again=True):
        """Change TCB info or QE identity; sign again (with the real signer's key unless another is given) or do not."""
        member = {"tcb_info": "tcbInfo", "qe_identity": "enclaveIdentity"}[part]
        whole = json.loads(getattr(evidence.collateral, part))
        edit(whole[member])
        document = sign_document(member, whole[member], key or self.platform.pki.tcb_signer.private_key)
        if not sign_again:
            document = document[: -len('"}') - 128] + whole["signature"].encode() + b'"}'
        return evidence.with_collateral(**{part: document})

    def crl(self, issuer, *revoked, next_update=NOW + timedelta(days=29), last_update=None):
        last_update = last_update or min(NOW - timedelta(days=1), next_update - timedelta(days=2))
        serials = tuple(certificate.serial_number for certificate in revoked)
        crl = create_crl(issuer, Validity(last_update, next_update), serials)
        return crl.public_bytes(Encoding.DER)
