"""The six targets of the fuzzer that is led by coverage: what reads bytes of a stranger, or of a person's file.

Every target holds the same contract for any input: only documented errors leave the parser; what was parsed is encoded
to the same bytes where the codec is exact; nothing warns; and `verify` with the input in the place of the good part
never raises, and accepts only what means the same as the good part. Where the keys are at hand the input is also signed
again, so that it reaches what lies behind the signature checks.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confcom.errors import ConfcomError, MalformedError, SettingsError
from confcom.sgx.binary import SEQUENCE, ByteReader
from confcom.sgx.certificate_parts import CertificateParts
from confcom.sgx.certificates import load_certificate
from confcom.sgx.certification import CertificationData
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.sgx.report import ReportBody, report_data
from confcom.sgx.signed_json import SignedJson
from confcom.sgx.tcb_documents import QE_IDENTITY_NAME, TCB_INFO_NAME, QeIdentity, TcbInfo, TcbStatus
from confcom.simulation.keys import derive_private_key
from confcom.verify import Collateral, UnreadableInputError, Verdict, read_policy, verify
from confcom.verify.inspection import inspect_quote
from confcom.verify.ratls import Form, make_certificate, read_evidence, verify_certificate
from fuzz.evidence import CHALLENGE, CRLS, SIGNED_PARTS, VECTORS, GoodEvidence, SimulatedEvidence, meaning
from fuzz.mutations import bytes_mutated, der_mutated, tokens_mutated
from testkit.verify import ratls_lab

_T = TypeVar("_T")
CODES: Final = frozenset(
    re.findall(
        r"^\| [\w-]+ \| <a [^>]+></a>`([\w-]+)` \|",
        (VECTORS.parents[1] / "docs/reference/codes.md").read_text(),
        re.MULTILINE,
    )
)
MAX_QUOTE_INPUT: Final = 8 * 1024
MAX_DOCUMENT_INPUT: Final = 4 * 1024
MAX_CERTIFICATE_INPUT: Final = 16 * 1024
"""Greatest inputs in bytes: each above its target's seeds. A greater input costs more time than it finds; limits of
size are tables in tests/sgx and tests/verify."""

ROOT_NAME: Final = b"Root CA"
"""Part of the name of the root, which issues its own revocation list; the PCK's CA issues the other one."""
STRANGERS_SERIAL: Final = 7
"""Serial number in the only entry of a revocation list: no certificate of the good evidence has it."""


class ContractBrokenError(Exception):
    """An input broke the contract; the text says how."""


class Target(ABC):
    """One parser under its contract. The same object is used for many inputs."""

    max_size: ClassVar[int]
    words: ClassVar[tuple[bytes, ...]] = ()
    """Words of the format, for libFuzzer's dictionary."""

    def __init__(self, good: SimulatedEvidence) -> None:
        self.good = good
        self.prepared = good.collateral.prepared(good.root, good.now)

    def check(self, data: bytes) -> None:
        """Hold the contract for an input.

        Raises:
            Exception: any exception is a finding.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self._check(data)

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Return other data; by default by bytes, in formats with a structure by their elements."""
        return bytes_mutated(data, random)

    @abstractmethod
    def seeds(self) -> Mapping[str, bytes]: ...

    @abstractmethod
    def _check(self, data: bytes) -> None: ...

    def judged(self, quote: bytes) -> Verdict[Any]:
        good = self.good
        return consistent(verify(quote, good.policy, self.prepared, now=good.now))

    def judged_collateral(self, **parts: bytes) -> Verdict[Any]:
        return consistent(self.good.verdict(**parts))


def documented(
    parse: Callable[[bytes], _T], data: bytes, kinds: tuple[type[ConfcomError], ...] = (MalformedError,)
) -> _T | ConfcomError:
    """Return what `parse` returned, or its error, which must be of one of the kinds and have a documented code."""
    try:
        return parse(data)
    except kinds as error:
        require(error.error_code in CODES, f"an error has a code that no page has: {error.error_code}")
        require(bool(error.what), f"an error says nothing: {error!r}")
        return error


def consistent(verdict: Verdict[Any]) -> Verdict[Any]:
    """Return the verdict after a look at what holds for every verdict."""
    for check in verdict.checks:
        require(check.code in CODES, f"a check has a code that no page has: {check.code}")
    require(verdict.ok == (not verdict.failures), "ok and failures do not agree")
    require((verdict.claims is not None) or not verdict.ok, "a verdict is ok without claims")
    for check in verdict.failures:
        check.to_json()
    return verdict


def require(holds: bool, text: str) -> None:  # noqa: FBT001 # as assert
    if not holds:
        raise ContractBrokenError(text)


class QuoteTarget(Target):
    """A quote: parsed, encoded, inspected, verified; then its header and body signed by the right key, and verified."""

    max_size = MAX_QUOTE_INPUT

    def seeds(self) -> Mapping[str, bytes]:
        vectors = VECTORS / "genuine-quotes"
        quote = self.good.quote
        return {
            "simulated": quote,
            "another": self.good.quote_for(bytes(64)),
            "trailing": quote + bytes(8),
            "open-enclave": ratls_lab.open_enclave(quote),
            "type-3": (vectors / "quote_raw_tcb.bin").read_bytes(),
            "type-5": (vectors / "quote_pck_cert_chain.bin").read_bytes(),
            **{name: (vectors / name).read_bytes() for name in ("tdx_quote", "tdx_quote_outdated", "tdx_quote_td15ex")},
            **{f"version-{version}": self._of_version(version) for version in (4, 5)},
        }

    def _of_version(self, version: int) -> bytes:
        quote = Quote.parse(self.good.quote)
        return self.good.signed_quote(replace(quote, header=replace(quote.header, version=version)))

    def _check(self, data: bytes) -> None:
        require(inspect_quote(data).size == len(data), "inspect_quote sees another size")
        verdict = self.judged(data)
        quote = documented(Quote.parse, data)
        if not isinstance(quote, Quote):
            require(verdict.kind.value == "unusable", f"what cannot be parsed is {verdict.kind}")
            return
        require(quote.encode() == data, "a quote is encoded to other bytes")
        require(not verdict.ok or meaning(data) == meaning(self.good.quote), "a changed quote is verified")
        signed = self.judged(self.good.signed_quote(quote))
        body, wanted = quote.body, (self.good.enclave.mr_enclave, CHALLENGE)
        fits = isinstance(body, ReportBody) and (body.mr_enclave, body.report_data) == wanted and not body.debug
        require(not signed.ok or fits, "a quote that the policy does not fit is verified")


class CertificationTarget(Target):
    """Certification data in a good quote; or one certificate, DER, as its leaf, also signed by the PCK's CA."""

    max_size = MAX_QUOTE_INPUT
    words = (
        b"-----BEGIN CERTIFICATE-----",
        b"-----END CERTIFICATE-----",
        b"\x05\0",
        b"\x06\x0a\x2a\x86\x48\x86\xf8\x4d",
    )

    def mutate(self, data: bytes, random: Random) -> bytes:
        return der_mutated(data, random)

    def seeds(self) -> Mapping[str, bytes]:
        vectors, pki = VECTORS / "genuine-quotes", self.good.platform.pki
        genuine = Quote.parse((vectors / "sgx_quote").read_bytes())
        raw = Quote.parse((vectors / "quote_raw_tcb.bin").read_bytes())
        return {
            "chain": Quote.parse(self.good.quote).signature.certification.encode(),
            "intel-chain": genuine.signature.certification.encode(),
            "ppid": raw.signature.certification.encode(),
            "ppid-clear": CertificationData(1, bytes(36)).encode(),
            "pck": pki.pck.der,
            "ca": pki.pck_ca.der,
            "root": pki.root.der,
            "intel-pck": PckChain.from_quote(genuine).leaf.public_bytes(Encoding.DER),
        }

    def _check(self, data: bytes) -> None:
        if data[:1] == bytes([SEQUENCE]):
            self._check_leaf(data)
            return
        certification = documented(lambda raw: CertificationData.read(ByteReader(raw, "the data")), data)
        if not isinstance(certification, CertificationData):
            return
        require(data.startswith(certification.encode()), "certification data are encoded to other bytes")
        ppid = documented(lambda _: certification.ppid_data(), data)
        if ppid is not None and not isinstance(ppid, ConfcomError):
            require(certification.data.startswith(ppid.ppid + ppid.cpu_svn), "PPID data have other bytes")
        chain = documented(lambda _: certification.pem_chain(), data)
        if not isinstance(chain, ConfcomError):
            require(b"".join(chain).split() == data_lines(certification.data), "a PEM chain loses bytes")
        self._check_quote(self.good.with_certification(certification))

    def _check_leaf(self, der: bytes) -> None:
        self._check_quote(self.good.with_leaf(der))
        certificate = documented(lambda data: load_certificate(data, "the leaf"), der)
        if isinstance(certificate, ConfcomError):
            return
        require(certificate.public_bytes(Encoding.DER) == der, "a certificate is encoded to other bytes")
        extension = PckChain(certificate, (), None).extension()
        require(getattr(extension, "error_code", "malformed") in CODES, "an error has a code that no page has")
        quote = self.good.with_leaf(self.good.signed_leaf(certificate))
        inspect_quote(quote)
        self.judged(quote)

    def _check_quote(self, quote: bytes) -> None:
        inspect_quote(quote)
        verdict = self.judged(quote)
        require(not verdict.ok or meaning(quote) == meaning(self.good.quote), "a changed certification is verified")


def data_lines(data: bytes) -> list[bytes]:
    return data.replace(b"\0", b" ").split()


class TcbDocumentsTarget(Target):
    """TCB info and QE identity, as served and signed again by the right key; and both forms of collateral in JSON."""

    max_size = MAX_DOCUMENT_INPUT
    words = (
        *(status.value.encode() for status in TcbStatus),
        *(b'"tdxModule"', b'"tdxModuleIdentities"', b'"tdxtcbcomponents"', b'"TDX_01"', b'"TDX"', b'"TD_QE"'),
        *(b'"tcbInfo"', b'"enclaveIdentity"', b'"simulation"', b'"advisoryIDs"', b'"collaterals"', b"1e400", b"NaN"),
        *(
            b"2147483648",
            b"9999-12-31T23:59:59Z",
            b"0000-00-00T00:00:00Z",
            b"\\ud800",
            b"null",
            b"[[[[[[[[",
            b'"tcb_info"',
        ),
    )
    _kinds: ClassVar[Mapping[str, tuple[str, Callable[[bytes], TcbInfo | QeIdentity]]]] = {
        TCB_INFO_NAME: ("tcb_info", TcbInfo.parse),
        QE_IDENTITY_NAME: ("qe_identity", QeIdentity.parse),
    }

    def mutate(self, data: bytes, random: Random) -> bytes:
        return tokens_mutated(data, random)

    def seeds(self) -> Mapping[str, bytes]:
        parts = {name: getattr(self.good.collateral, name) for name in SIGNED_PARTS}
        intel = GoodEvidence.genuine().collateral
        tdx = Collateral.from_json((VECTORS / "genuine-quotes" / "tdx_quote_collateral.json").read_bytes())
        short = {"root_ca_crl": "30", "pck_crl": "30", "tcb_info": "{}", "qe_identity": "{}"}
        chains = {f"{name}_issuer_chain": "PEM" for name in (*SIGNED_PARTS, "pck_crl")}
        signatures = {f"{name}_signature": "00" * 64 for name in SIGNED_PARTS}
        bare = {"collaterals": {"tcbinfos": [{"fmspc": "00" * 6}], "certificates": {}, "pckcacrl": {}}}
        return {
            **parts,
            "intel-qe-identity": intel.qe_identity,
            "intel-tdx-tcb-info": tdx.tcb_info,
            "intel-td-qe-identity": tdx.qe_identity,
            "json": json.dumps(short | chains | signatures).encode(),
            "json-intel": json.dumps(bare).encode(),
        }

    def _check(self, data: bytes) -> None:
        documented(Collateral.from_json, data)
        name = next((name for name in self._kinds if data.startswith(f'{{"{name}"'.encode())), TCB_INFO_NAME)
        part, parse = self._kinds[name]
        signed = documented(lambda document: SignedJson.parse(document, name), data)
        verdict = self.judged_collateral(**{part: data})
        if not isinstance(signed, SignedJson):
            require(not verdict.ok, "a document that cannot be parsed is used")
            return
        require(signed.encode().lower() == data.rstrip().lower(), "a document is encoded to other bytes")
        same = signed.body == SignedJson.parse(getattr(self.good.collateral, part), name).body
        require(not verdict.ok or same, "a changed document is used")
        document = self.good.signed_document(signed)
        parsed = documented(parse, document)
        verdict = self.judged_collateral(**{part: document})
        require(not (isinstance(parsed, ConfcomError) and verdict.ok), "a document that cannot be parsed is used")
        require(not verdict.ok or verdict.tcb_status == TcbStatus.UP_TO_DATE.value, "another status is accepted")


class CrlTarget(Target):
    """A revocation list as the root's and as the PCK CA's, as served and signed again by the right key."""

    max_size = MAX_DOCUMENT_INPUT

    def __init__(self, good: SimulatedEvidence) -> None:
        super().__init__(good)
        self._revoking = good.crl(revoked=STRANGERS_SERIAL)

    def mutate(self, data: bytes, random: Random) -> bytes:
        return der_mutated(data, random)

    def seeds(self) -> Mapping[str, bytes]:
        lists = {name: getattr(self.good.collateral, name) for name in CRLS}
        return {**lists, "revoking": self._revoking, "intel-pck": GoodEvidence.genuine().collateral.pck_crl}

    def _check(self, data: bytes) -> None:
        part = "root_ca_crl" if ROOT_NAME in data else "pck_crl"
        collateral = replace(self.good.collateral, **{part: data})
        documents = documented(lambda _: collateral.read(), data)
        unchanged = self.judged_collateral(**{part: data})
        issued = {getattr(self.good.collateral, part), self._revoking}
        require(not unchanged.ok or data in issued, "a changed revocation list is used")
        if isinstance(documents, ConfcomError):
            return
        crl = x509.load_der_x509_crl(data)
        require(crl.public_bytes(Encoding.DER) == data, "a revocation list is encoded to other bytes")
        signed = self.judged_collateral(**{part: self.good.signed_crl(part, crl)})
        require(not signed.ok or not self._revokes(part, crl), "a revoked certificate is accepted")

    def _revokes(self, part: str, crl: x509.CertificateRevocationList) -> bool:
        pki = self.good.platform.pki
        ours = (pki.pck,) if part == "pck_crl" else (pki.pck_ca, pki.tcb_signer)
        serials = [key.certificate.serial_number for key in ours]
        return any(crl.get_revoked_certificate_by_serial_number(serial) is not None for serial in serials)


class RatlsCertificateTarget(Target):
    """A peer's certificate: its evidence is read, and verified with a policy that the good enclave meets."""

    max_size = MAX_CERTIFICATE_INPUT
    words = (b"\xd9\xea\x60\x82", b"kpubkey-hash", b"enonce", b"-----BEGIN CERTIFICATE-----")

    def __init__(self, good: SimulatedEvidence) -> None:
        super().__init__(good)
        self._key = derive_private_key(bytes(32), "a fuzzed service's key")
        public = self._key.public_key()
        self._public_key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self._policy = replace(good.policy, report_data=None)

    def mutate(self, data: bytes, random: Random) -> bytes:
        return der_mutated(data, random)

    def seeds(self) -> Mapping[str, bytes]:
        good, key = self.good, self._key
        by_key = good.quote_for(report_data(hashlib.sha256(self._public_key).digest()))
        pem = ratls_lab.pem_of(key) + b"\0"
        by_pem = good.quote_for(report_data(hashlib.sha256(pem).digest()))
        forms = {
            Form.GRAMINE: by_key,
            Form.INTEL_SDK: by_pem,
            Form.OPEN_ENCLAVE: ratls_lab.open_enclave(by_key),
            Form.OPEN_ENCLAVE_EVIDENCE: ratls_lab.open_enclave_evidence(by_pem, pem),
        }
        certificates = {form.value: ratls_lab.certificate_with({form: value}, key) for form, value in forms.items()}
        certificates["interoperable"] = make_certificate(good.quote_for, key, nonce=b"nonce", now=good.now)
        certificates["rats-tls"] = (VECTORS / "ra-tls" / "rats-tls-cert.pem").read_bytes()
        ders = {name: x509.load_pem_x509_certificate(pem) for name, pem in certificates.items()}
        return {
            **{name: certificate.public_bytes(Encoding.DER) for name, certificate in ders.items()},
            "pem": certificates["interoperable"],
        }

    def _check(self, data: bytes) -> None:
        parts = documented(CertificateParts.parse, data)
        evidence = documented(read_evidence, data)
        verdict = consistent(verify_certificate(data, self._policy, self.prepared, now=self.good.now))
        if isinstance(evidence, ConfcomError) or isinstance(parts, ConfcomError):
            require(not verdict.ok, "a certificate without evidence is verified")
            return
        for item in evidence:
            found = Quote.parse(item.quote).body.report_data
            require(found == item.report_data, "evidence names other report data than its quote")
        require(not verdict.ok or parts.public_key == self._public_key, "another key is verified")


class PolicyFileTarget(Target):
    """A policy file: read, and used on the good quote with the challenge of the call."""

    max_size = MAX_DOCUMENT_INPUT
    words = (
        *(
            b"mr_enclave",
            b"mr_signer",
            b"isv_prod_id",
            b"min_isv_svn",
            b"config_id",
            b"allow_simulated",
            b"allow_debug",
        ),
        *(b"accepted_tcb_statuses", b"rejected_advisories", b"[[identities]]", b"platforms", b"max_collateral_age"),
        *(b"platform_grace_period", b"min_tcb_evaluation_number", b"report_data", b"99999d", b"true", b"inf", b"nan"),
        *(b"1979-05-27T07:32:00Z", b"0x7fffffff", b"9223372036854775808", b'"""', b"'''", b"\\uD800", b"UpToDate"),
    )

    def mutate(self, data: bytes, random: Random) -> bytes:
        return tokens_mutated(data, random)

    def seeds(self) -> Mapping[str, bytes]:
        enclave = self.good.enclave.mr_enclave.hex()
        accepting = f'mr_enclave = "{enclave}"\nallow_simulated = true\n'
        demands = (
            'accepted_tcb_statuses = ["UpToDate", "OutOfDate"]\nrejected_advisories = ["INTEL-SA-00334"]\n'
            'platform_grace_period = "30d"\nmax_collateral_age = "12h"\nmin_tcb_evaluation_number = 20\n'
            f'platforms = ["{"00" * 16}", "{"11" * 32}"]\n'
        )
        tables = (
            f'[[identities]]\nmr_signer = "{"22" * 32}"\nisv_prod_id = 1\nmin_isv_svn = 2\n'
            f'[[identities]]\nmr_enclave = "{enclave}"\n'
        )
        return {
            "accepting": accepting.encode(),
            "demands": (accepting + demands).encode(),
            "identities": ("allow_simulated = true\n" + demands + tables).encode(),
            "kss": f'{accepting}config_id = "{"00" * 64}"\nisv_family_id = "{"00" * 16}"\nmin_config_svn = 0'.encode(),
        }

    def _check(self, data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="confcom-fuzz-") as folder:
            path = Path(folder) / "policy.toml"
            path.write_bytes(data)
            policy = documented(lambda _: read_policy(path, CHALLENGE), data, (SettingsError, UnreadableInputError))
            if isinstance(policy, ConfcomError):
                return
            require(policy == read_policy(path, CHALLENGE), "one file gives two policies")
        good = self.good
        verdict = consistent(verify(good.quote, policy, self.prepared, now=good.now))
        if verdict.ok and verdict.claims is not None:
            listed = [identity.fits(verdict.claims) for identity in policy.identities or ()]
            names = policy.mr_enclave or policy.mr_signer or listed
            fits = policy.mr_enclave in {None, good.enclave.mr_enclave} and (policy.identities is None or any(listed))
            require(bool(names) and fits and policy.allow_simulated, "a policy accepts what it does not name")


TARGETS: Final[Mapping[str, type[Target]]] = {
    "quote": QuoteTarget,
    "certification": CertificationTarget,
    "tcb-documents": TcbDocumentsTarget,
    "crl": CrlTarget,
    "ratls-certificate": RatlsCertificateTarget,
    "policy-file": PolicyFileTarget,
}
