"""All defects of a quote, its certificates or its collateral, and the verdicts on each."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.sgx.pck.extension import SGX_EXTENSION_OID, PckExtension
from confcom.sgx.quote import QUOTE_HEADER_SIZE, SGX_QUOTE_VERSION, SIGNED_PART_SIZE, QuoteFrame
from confcom.sgx.simulation_marks import NS_COMMENT_OID
from confcom.sgx.td_report import TdReport10, TdReport15
from confcom.sgx.tee_type import TeeType
from confcom.simulation.pki import CertifiedKey
from confcom.verify.verdict import VerdictKind
from testkit.verify.verify_lab import NOW, OTHER_KEY, Evidence, Lab

Tamper = Callable[[Lab, Evidence], Evidence]

LONG_AGO = datetime(2026, 11, 20, tzinfo=UTC)
UNKNOWN_OID = x509.ObjectIdentifier("1.2.3.4.5")
FALSE, UNUSABLE = VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE
REFUSED, VERIFIED = VerdictKind.AUTHENTIC_NOT_AUTHORISED, VerdictKind.VERIFIED


@dataclass(frozen=True)
class Case:
    name: str
    tamper: Tamper
    kind: VerdictKind = FALSE
    """The wanted verdict, with a policy that the untouched evidence satisfies."""
    of_sgx: bool = False
    """Whether the case is one of SGX only, not of both TEEs."""


def flip(start, size=1):
    def tamper(lab, evidence):
        quote = bytearray(evidence.quote)
        quote[placed(evidence.quote, start) + size - 1] ^= 0x01
        return replace(evidence, quote=bytes(quote))

    return tamper


def placed(quote, start):
    """The offset in this quote of a part that begins at `start` in an SGX quote; MRENCLAVE's counterpart is MRTD."""
    if quote[0] == SGX_QUOTE_VERSION or start < QUOTE_HEADER_SIZE:
        return start
    end = len(QuoteFrame.parse(quote).signed_part)
    if start >= SIGNED_PART_SIZE:
        inside_type_6 = 6 if start >= 564 else 0
        return start + end - SIGNED_PART_SIZE + inside_type_6
    return QUOTE_HEADER_SIZE + (6 if quote[0] == 5 else 0) + {112: 136, 368: 520}[start]


# Some fields of header and report body, which one signature covers; bit flips in tests/verify cover the rest.
FIELDS = {
    "version": (0, 2),
    "att_key_type": (2, 2),
    "vendor_id": (12, 16),
    "user_data": (28, 20),
    "mr_enclave": (112, 32),
    "report_data": (368, 64),
    "signature data length": (432, 1),
    "signature of the quote": (436, 64),
    "attestation key": (500, 64),
    "QE report": (564, 384),
    "signature of the QE report": (948, 64),
    "auth data length": (1012, 1),
    "auth data": (1014, 32),
    "certification data type": (1046, 1),
    "certification data length": (1048, 1),
}
UNREADABLE = {"version", "att_key_type", "signature data length", "auth data length"} | {
    "certification data type",
    "certification data length",
}
"""Fields that are needed to read the rest: their verdict is unusable instead of not authentic."""


def cases(tee=TeeType.SGX):
    every = (*quote_cases(), *chain_cases(), *collateral_cases(), *difference_cases())
    return [case for case in every if tee is TeeType.SGX or not case.of_sgx]


def quote_cases():
    for name, (start, size) in FIELDS.items():
        kind = UNUSABLE if name in UNREADABLE else FALSE
        yield Case(f"{name} changed", flip(start, size), kind)
    for size in (0, 47, 432, 436, 1052, 5000):
        yield Case(f"cut to {size} bytes", cut(size), UNUSABLE)
    other_key = {"report_data": b"\1" * 32 + bytes(32)}
    yield Case("QE report's binding: another key, signed", lambda lab, ev: lab.edit_qe_report(ev, **other_key))
    yield Case("another attestation key, quote signed again with it", other_attestation_key)
    yield Case("auth data of 31 bytes, bound and signed", lambda lab, ev: lab.edit_qe_report(ev, b"x" * 31))
    yield Case("QE MRSIGNER another, signed", lambda lab, ev: lab.edit_qe_report(ev, mr_signer=bytes(32)))
    yield Case("QE ISVPRODID another, signed", lambda lab, ev: lab.edit_qe_report(ev, isv_prod_id=9))
    yield Case("QE attributes: DEBUG, signed", lambda lab, ev: lab.edit_qe_report(ev, flags=0x17))
    for version, body in ((4, TdReport10(bytes(16))), (5, TdReport15(bytes(16)))):
        of_a_td = partial(Lab.td_quote, version=version, body=body)
        yield Case(f"version {version} of a TD, signed", of_a_td, UNUSABLE, of_sgx=True)
        reframed = partial(Lab.edit_signed, header={"version": version})
        yield Case(f"version {version} of an enclave, signed", reframed, UNUSABLE, of_sgx=True)
    yield Case("vendor id not Intel's, signed", lambda lab, ev: lab.edit_signed(ev, header={"vendor_id": bytes(16)}))


def other_attestation_key(lab, evidence):
    stranger = lab.evidence(platform=lab.stranger).parsed.signature
    return lab.edit_signature(evidence, attestation_key=stranger.attestation_key, isv_signature=stranger.isv_signature)


def cut(size):
    return lambda _lab, evidence: replace(evidence, quote=evidence.quote[:size])


def chain_cases():
    expired = {"not_after": LONG_AGO, "not_before": LONG_AGO - timedelta(1)}
    stranger = {"signer": OTHER_KEY}
    no_ca, ca = (x509.BasicConstraints(ca=is_ca, path_length=None) for is_ca in (False, True))
    other_name = "SIMULATED SGX Something - NOT INTEL"
    yield Case("leaf of a stranger", chain(lambda own, others: (others[0], *own[1:])))
    yield Case("intermediate of a stranger", chain(lambda own, others: (own[0], others[1], own[2])))
    yield Case("root of a stranger in the chain", chain(lambda own, others: (*own[:2], others[2])))
    yield Case("a stranger's whole quote", lambda lab, ev: replace(ev, quote=lab.evidence(platform=lab.stranger).quote))
    yield Case("a stranger's root trusted", lambda lab, ev: replace(ev, root=lab.stranger.pki.root.certificate))
    yield Case("intermediate first", chain(lambda own, _: (own[1], own[0], own[2])))
    yield Case("root first", chain(lambda own, _: own[::-1]))
    yield Case("root twice", chain(lambda own, _: (*own, own[2])), UNUSABLE)
    yield Case("leaf alone", chain(lambda own, _: own[:1]))
    yield Case("leaf expired", leaf(**expired))
    yield Case("leaf not yet valid", leaf(not_before=NOW + timedelta(1)))
    yield Case("leaf signed by a stranger", leaf(**stranger))
    yield Case(f"leaf with the common name {other_name}", leaf(common_name=other_name))
    yield Case("leaf with Intel's common name", leaf(common_name="Intel SGX PCK Certificate"))
    yield Case("leaf without SGX extension", leaf(without=SGX_EXTENSION_OID))
    yield Case("leaf that is a CA", leaf(replacing=ca))
    yield Case("intermediate expired", intermediate(**expired))
    yield Case("intermediate signed by a stranger", intermediate(**stranger))
    yield Case("intermediate that is no CA", intermediate(replacing=no_ca))
    yield Case("whole chain reissued with Intel's names", intels_names)
    yield Case("FMSPC of another family", extension(fmspc=b"SIMXXX"))
    yield Case("PCE id another", extension(pce_id=b"\1\0"), UNUSABLE)
    yield Case("TCB components below every level", below_every_level)


def intels_names(lab, evidence):
    """Leave out the marks in the names below the root, which only the simulated root's owner could do."""
    pki = lab.platform.pki
    ca = lab.reissue(pki.pck_ca, pki.root, common_name="Intel SGX PCK Platform CA")
    pck = lab.reissue(pki.pck, CertifiedKey(ca, pki.pck_ca.private_key), common_name="Intel SGX PCK Certificate")
    crl = lab.crl(CertifiedKey(ca, pki.pck_ca.private_key))
    return lab.with_chain(evidence, pck, ca, lab.chain[2]).with_collateral(pck_crl=crl)


def chain(certificates):
    def tamper(lab, evidence):
        pki = lab.stranger.pki
        others = (pki.pck.certificate, pki.pck_ca.certificate, pki.root.certificate)
        return lab.with_chain(evidence, *certificates(lab.chain, others))

    return tamper


def reissued_intermediate(lab, **changes):
    return lab.reissue(lab.platform.pki.pck_ca, lab.platform.pki.root, **changes)


def leaf(**changes):
    def tamper(lab, evidence):
        pki = lab.platform.pki
        return lab.with_chain(evidence, lab.reissue(pki.pck, pki.pck_ca, **changes), *lab.chain[1:])

    return tamper


def intermediate(**changes):
    return lambda lab, ev: lab.with_chain(ev, lab.chain[0], reissued_intermediate(lab, **changes), lab.chain[2])


def extension(**changes):
    def tamper(lab, evidence):
        value = replace(PckExtension.from_certificate(lab.chain[0]), **changes).encode()
        return leaf(replacing=x509.UnrecognizedExtension(SGX_EXTENSION_OID, value))(lab, evidence)

    return tamper


def below_every_level(lab, evidence):
    def edit(info):
        info["tcbLevels"] = info["tcbLevels"][:1]
        info["tcbLevels"][0]["tcb"]["pcesvn"] = 99

    return lab.edit_json(evidence, "tcb_info", edit)


def collateral_cases():
    for part in ("tcb_info", "qe_identity"):
        stranger = edit(part, touch, key=OTHER_KEY)
        yield Case(f"{part} changed", edit(part, touch, sign_again=False), UNUSABLE)
        yield Case(f"{part} signed by a stranger", stranger, UNUSABLE)
        yield Case(f"{part} expired", edit(part, setting(nextUpdate="2026-11-24T00:00:00Z")), UNUSABLE)
        yield Case(f"{part} of a stranger", strangers(part), UNUSABLE)
        yield Case(f"{part} signed by a PCK", signed_by_pck(part), UNUSABLE)
        yield Case(f"{part} of another TCB recovery", edit(part, touch), UNUSABLE)
    yield Case("tcb_info for another FMSPC", edit("tcb_info", setting(fmspc="53494D585858")), UNUSABLE)
    yield Case("tcb_info for another PCE id", edit("tcb_info", setting(pceId="0100")), UNUSABLE)
    yield Case("qe_identity for another MRSIGNER", edit("qe_identity", setting(mrsigner="00" * 32)))
    yield Case("QE below every level", edit("qe_identity", qe_level(99)))
    yield Case("TCB revoked", status("tcb_info", "Revoked"))
    yield Case("QE revoked", status("qe_identity", "Revoked"))
    yield Case("leaf revoked", replaced("pck_crl", lambda lab: lab.crl(lab.platform.pki.pck_ca, lab.chain[0])))
    yield Case("intermediate revoked", revoked_by_root(lambda lab: lab.chain[1]))
    revoked_signer = revoked_by_root(lambda lab: lab.platform.pki.tcb_signer.certificate)
    yield Case("TCB signer revoked", revoked_signer, UNUSABLE)
    yield from crl_cases("pck_crl", "pck_ca")
    yield from crl_cases("root_ca_crl", "root")
    yield Case("pck_crl of the TCB signer, which is no CA", crl_of_the_tcb_signer, UNUSABLE)
    other_name = tcb_signer(common_name="SIMULATED SGX Thing - NOT INTEL")
    yield Case("TCB signer with another common name", other_name, UNUSABLE)
    expired_signer = tcb_signer(not_after=LONG_AGO, not_before=LONG_AGO - timedelta(1))
    yield Case("TCB signer expired", expired_signer, UNUSABLE)
    yield Case("TCB signer's chain of a stranger", strangers("tcb_info_issuer_chain"), UNUSABLE)
    yield Case("PCK revocation list's chain of a stranger", strangers("pck_crl_issuer_chain"), UNUSABLE)


def edit(part, change, **signing):
    return lambda lab, evidence: lab.edit_json(evidence, part, change, **signing)


def status(part, value):
    return edit(part, lambda document: document["tcbLevels"][0].update(tcbStatus=value))


def qe_level(isv_svn):
    return lambda document: document.update(tcbLevels=[document["tcbLevels"][0] | {"tcb": {"isvsvn": isv_svn}}])


def replaced(part, make):
    return lambda lab, evidence: evidence.with_collateral(**{part: make(lab)})


def strangers(part):
    return replaced(part, lambda lab: getattr(lab.collateral(platform=lab.stranger), part))


def revoked_by_root(certificate):
    return replaced("root_ca_crl", lambda lab: lab.crl(lab.platform.pki.root, certificate(lab)))


def setting(**members):
    return lambda document: document.update(members)


def unmark(document):
    document.pop("simulation")
    for level in document["tcbLevels"]:
        level.pop("advisoryIDs")


def touch(document):
    document["tcbEvaluationDataNumber"] += 1


def crl_cases(part, issuer):
    def own(lab):
        return getattr(lab.platform.pki, issuer)

    expired = replaced(part, lambda lab: lab.crl(own(lab), next_update=NOW - timedelta(hours=1)))
    yield Case(f"{part} expired", expired, UNUSABLE)
    strange = replaced(part, lambda lab: lab.crl(getattr(lab.stranger.pki, issuer)))
    yield Case(f"{part} of a stranger", strange, UNUSABLE)
    forged = replaced(part, lambda lab: lab.crl(CertifiedKey(own(lab).certificate, OTHER_KEY)))
    yield Case(f"{part} signed by a stranger's key", forged, UNUSABLE)


def crl_of_the_tcb_signer(lab, evidence):
    pki = lab.platform.pki
    return evidence.with_collateral(
        pck_crl=lab.crl(pki.tcb_signer), pck_crl_issuer_chain=pki.tcb_signer.pem + pki.root.pem
    )


def tcb_signer(**changes):
    def tamper(lab, evidence):
        signer = lab.reissue(lab.platform.pki.tcb_signer, lab.platform.pki.root, **changes)
        pem = signer.public_bytes(Encoding.PEM) + lab.platform.pki.root.pem
        return evidence.with_collateral(tcb_info_issuer_chain=pem, qe_identity_issuer_chain=pem)

    return tamper


def signed_by_pck(part):
    """Sign with a platform's PCK: who broke one platform could declare all up to date."""

    def tamper(lab, evidence):
        evidence = lab.edit_json(evidence, part, touch, key=lab.platform.pki.pck.private_key)
        pki = lab.platform.pki
        return evidence.with_collateral(**{f"{part}_issuer_chain": pki.pck.pem + pki.pck_ca.pem + pki.root.pem})

    return tamper


def difference_cases():
    """Cases that dcap-qvl accepts, and cases that only dcap-qvl refuses, as `vectors.run_dcap_qvl` names them."""
    unknown = x509.UnrecognizedExtension(UNKNOWN_OID, b"\5\0")
    header = {"user_data": bytes(20)}
    yield Case("root not marked as simulated", unmarked_root)
    yield Case("mark removed: header user data, signed", lambda lab, ev: lab.edit_signed(ev, header=header))
    yield Case("mark removed: auth data, signed", lambda lab, ev: lab.edit_qe_report(ev, bytes(range(32))))
    yield Case("mark removed: leaf's comment", leaf(without=NS_COMMENT_OID))
    for name, part in (("TCB", "tcb_info"), ("QE", "qe_identity")):
        forget_advisory = edit(part, lambda document: document["tcbLevels"][0].pop("advisoryIDs"))
        forget_simulation = edit(part, lambda document: document.pop("simulation"))
        yield Case(f"mark removed: advisory in {part}, signed", forget_advisory)
        yield Case(f"mark removed: simulation object in {part}, signed", forget_simulation)
        yield Case(f"{part} issued in the future", edit(part, setting(issueDate="2026-11-25T12:00:00Z")), UNUSABLE)
        yield Case(f"{name} out of date", status(part, "OutOfDate"), REFUSED)
    yield Case("root expired", root(not_after=NOW - timedelta(hours=1)))
    yield Case("root revoked in its own list", revoked_by_root(lambda lab: lab.chain[2]))
    yield Case("chain without root", chain(lambda own, _: own[:2]))
    yield Case("leaf, root, intermediate", chain(lambda own, _: (own[0], own[2], own[1])), VERIFIED)
    yield Case("unknown critical extension in the leaf", leaf(adding=unknown, critical=True))
    yield Case("DEBUG enclave", lambda lab, ev: lab.edit_signed(ev, body={"flags": 0x07}), REFUSED, of_sgx=True)
    yield Case("trailing bytes", lambda _lab, ev: replace(ev, quote=ev.quote + b"\0"), UNUSABLE)


def root(**changes):
    """Replace the root's certificate everywhere by another one for the root's key."""

    def tamper(lab, evidence):
        pki = lab.platform.pki
        made = lab.reissue(pki.root, pki.root, **changes)
        pem = pki.tcb_signer.pem + made.public_bytes(Encoding.PEM)
        evidence = lab.with_chain(evidence, *lab.chain[:2], made)
        evidence = evidence.with_collateral(tcb_info_issuer_chain=pem, qe_identity_issuer_chain=pem)
        return replace(evidence, root=made)

    return tamper


unmarked_root = root(without=NS_COMMENT_OID)


def third_party(lab):
    """A private PKI that has nothing to do with Intel's and claims nothing about simulation."""
    pki = lab.platform.pki
    plain = {"without": NS_COMMENT_OID, "organization": "Some Laboratory"}
    root = CertifiedKey(lab.reissue(pki.root, pki.root, common_name="SGX Root CA", **plain), pki.root.private_key)
    ca = CertifiedKey(lab.reissue(pki.pck_ca, root, common_name="SGX PCK Platform CA", **plain), pki.pck_ca.private_key)
    signer = lab.reissue(pki.tcb_signer, root, common_name="SGX TCB Signing", **plain)
    anonymous = {"fmspc": b"LABLAB", "ppid": bytes(16), "platform_instance_id": bytes(16)}
    value = replace(PckExtension.from_certificate(lab.chain[0]), **anonymous).encode()
    extension = x509.UnrecognizedExtension(SGX_EXTENSION_OID, value)
    pck = lab.reissue(pki.pck, ca, common_name="SGX PCK Certificate", replacing=extension, **plain)

    evidence = lab.with_chain(lab.evidence(), pck, ca.certificate, root.certificate)
    evidence = lab.edit_qe_report(evidence, bytes(range(32)))
    evidence = lab.edit_signed(evidence, header={"user_data": bytes(20)}, body={"cpu_svn": bytes(16)})
    evidence = lab.edit_json(evidence, "tcb_info", lambda info: info.update(fmspc=b"LABLAB".hex()))
    for part in ("tcb_info", "qe_identity"):
        evidence = lab.edit_json(evidence, part, unmark)
    pem = signer.public_bytes(Encoding.PEM) + root.pem
    return replace(evidence, root=root.certificate).with_collateral(
        tcb_info_issuer_chain=pem,
        qe_identity_issuer_chain=pem,
        pck_crl=lab.crl(ca),
        pck_crl_issuer_chain=ca.pem + root.pem,
        root_ca_crl=lab.crl(root),
    )
