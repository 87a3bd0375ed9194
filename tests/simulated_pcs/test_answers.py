import json
from datetime import timedelta
from urllib.parse import unquote_to_bytes

import pytest
from cryptography import x509

from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.tee_type import TeeType
from confcom.simulated_pcs.answers import answer
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.pki import PCK_CRL_URL, ROOT_CRL_URL
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.simulated_collateral import RENEWAL_INTERVAL
from testkit.verify.verify_lab import NOW, SEED, Lab

PLATFORM = Lab().platform
PKI = PLATFORM.pki
V4 = "/sgx/certification/v4/"
TCB = f"{V4}tcb?fmspc=53494d534758"
QE = f"{V4}qe/identity"
CRL = f"{V4}pckcrl?ca=platform"
TDX_V4 = "/tdx/certification/v4/"
TDX_TCB = f"{TDX_V4}tcb?fmspc=53494d534758"
TDX_QE = f"{TDX_V4}qe/identity"
PLAIN = PLATFORM.collateral(NOW)
FOR_TDX = PLATFORM.collateral(NOW, tee=TeeType.TDX)
SIGNER = PKI.tcb_signer.pem + PKI.root.pem


def ask(target, staging=Staging.NONE, **options):
    return answer(target, PLATFORM, NOW, staging, **options)


SERVED = {
    TCB: (PLAIN.tcb_info, "application/json", "TCB-Info-Issuer-Chain", SIGNER),
    f"{V4}tcb?fmspc=53494D534758&update=standard&api-version=1": (
        *(PLAIN.tcb_info, "application/json"),
        *("TCB-Info-Issuer-Chain", SIGNER),
    ),
    QE: (PLAIN.qe_identity, "application/json", "SGX-Enclave-Identity-Issuer-Chain", SIGNER),
    TDX_TCB: (FOR_TDX.tcb_info, "application/json", "TCB-Info-Issuer-Chain", SIGNER),
    TDX_QE: (FOR_TDX.qe_identity, "application/json", "SGX-Enclave-Identity-Issuer-Chain", SIGNER),
    f"{CRL}&encoding=der": (
        *(PLAIN.pck_crl, "application/pkix-crl"),
        *("SGX-PCK-CRL-Issuer-Chain", PKI.pck_ca.pem + PKI.root.pem),
    ),
    f"{V4}rootcacrl": (PLAIN.root_ca_crl.hex().encode(), "application/pkix-crl", None, None),
    f"{V4}crl?uri={ROOT_CRL_URL}": (PLAIN.root_ca_crl, "application/pkix-crl", None, None),
    f"{V4}crl?uri={PCK_CRL_URL}": (PLAIN.pck_crl, "application/pkix-crl", None, None),
}


@pytest.mark.parametrize("target", SERVED)
def test_what_is_served(target):
    body, content_type, header, chain = SERVED[target]
    found = ask(target)
    assert (found.status, found.body, found.content_type) == (200, body, content_type)
    assert {name: unquote_to_bytes(value) for name, value in found.headers.items()} == (
        {header: chain} if header else {}
    )
    assert all(value.isascii() and value.isprintable() and " " not in value for value in found.headers.values())


@pytest.mark.parametrize(
    ("options", "encoding", "form"),
    [
        ({}, "", "pem"),
        ({}, "&encoding=pem", "pem"),
        ({}, "&encoding=DER", "der"),
        ({"pccs": True}, "", "hex"),
        ({"pccs": True}, "&encoding=der", "der"),
        ({"pccs": True}, "&encoding=pem", "pem"),
    ],
)
def test_forms_of_the_pck_revocation_list(options, encoding, form):
    body = ask(f"{CRL}{encoding}", **options).body
    if form == "pem":
        assert x509.load_pem_x509_crl(body) == x509.load_der_x509_crl(PLAIN.pck_crl)
    else:
        assert (bytes.fromhex(body.decode()) if form == "hex" else body) == PLAIN.pck_crl


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"{V4}tcb", 400),
        (f"{V4}tcb?fmspc=53494d5347", 400),
        (f"{V4}tcb?fmspc=53494d53475g", 400),
        (f"{V4}tcb?fmspc=00906ed50000", 404),
        (f"{TCB}&fmspc=53494d534758", 400),
        (f"{TCB}&update=late", 400),
        (f"{TCB}&update=early&tcbEvaluationDataNumber=1", 400),
        (f"{TCB}&tcbEvaluationDataNumber=one", 400),
        (f"{TCB}&tcbEvaluationDataNumber=99999999999", 400),
        (f"{TCB}&tcbEvaluationDataNumber=3", 404),
        (f"{TCB}&{'&'.join(f'x{number}=' for number in range(8))}", 400),
        (f"{TCB}&x=%ff", 400),
        (f"{QE}?update=early&tcbEvaluationDataNumber=1", 400),
        (f"{QE}?tcbEvaluationDataNumber=0", 404),
        (f"{V4}pckcrl", 400),
        (f"{V4}pckcrl?ca=root", 400),
        (f"{CRL}&encoding=hex", 400),
        (f"{V4}crl", 400),
        (f"{V4}crl?uri=https://certificates.trustedservices.intel.com/IntelSGXRootCA.der", 404),
        (f"{V4}pckcert?qeid=00", 404),
        (V4.replace("v4", "v3") + "tcb?fmspc=53494d534758", 404),
        (f"{TDX_V4}tcb", 400),
        (f"{TDX_V4}tcb?fmspc=00906ed50000", 404),
        (f"{TDX_V4}pckcrl?ca=platform", 404),
        (f"{TDX_V4}rootcacrl", 404),
        (f"{TDX_V4}crl?uri={ROOT_CRL_URL}", 404),
        (V4.replace("sgx", "sev") + "tcb?fmspc=53494d534758", 404),
        ("/", 404),
        ("/metrics", 404),
        ("http://[", 400),
    ],
)
def test_what_is_refused(target, status):
    found = ask(target)
    assert found.status == status
    assert found.headers["Error-Message"] + "\n" == found.body.decode()
    assert found.headers["Error-Message"].isprintable()


def number_of(found):
    (document,) = [value for name, value in json.loads(found.body).items() if name != "signature"]
    return document["tcbEvaluationDataNumber"]


@pytest.mark.parametrize("target", [f"{TCB}&", f"{QE}?", f"{TDX_TCB}&", f"{TDX_QE}?"])
@pytest.mark.parametrize(
    ("staging", "asked", "number"),
    [
        (Staging.NONE, "update=early", 1),
        (Staging.NONE, "tcbEvaluationDataNumber=1", 1),
        (Staging.EARLY, "", 1),
        (Staging.EARLY, "update=standard", 1),
        (Staging.EARLY, "update=early", 2),
        (Staging.EARLY, "tcbEvaluationDataNumber=1", 1),
        (Staging.EARLY, "tcbEvaluationDataNumber=2", 2),
        (Staging.OUT_OF_DATE, "", 2),
        (Staging.OUT_OF_DATE, "update=early", 2),
        (Staging.EXPIRED, "", 1),
    ],
)
def test_which_set_is_served(target, staging, asked, number):
    assert number_of(ask(target + asked, staging)) == number


@pytest.mark.parametrize("target", [f"{TCB}&", f"{QE}?", f"{TDX_TCB}&", f"{TDX_QE}?"])
def test_a_set_that_has_gone(target):
    assert ask(f"{target}tcbEvaluationDataNumber=1", Staging.REVOKED).status == 410


@pytest.mark.parametrize(("base", "tee", "tcb"), [(V4, "SGX", TCB), (TDX_V4, "TDX", TDX_TCB)])
@pytest.mark.parametrize(("staging", "numbers"), [(Staging.NONE, [1]), (Staging.EARLY, [2, 1]), (Staging.REVOKED, [2])])
def test_the_numbers_that_are_listed_are_served(staging, numbers, base, tee, tcb):
    found = ask(f"{base}tcbevaluationdatanumbers", staging)
    document = json.loads(found.body)["tcbEvaluationDataNumbers"]
    rows = document["tcbEvalNumbers"]
    assert document["id"] == tee
    assert [row["tcbEvaluationDataNumber"] for row in rows] == numbers
    assert unquote_to_bytes(found.headers["TCB-Evaluation-Data-Numbers-Issuer-Chain"]) == SIGNER
    for number in numbers:
        assert number_of(ask(f"{tcb}&tcbEvaluationDataNumber={number}", staging)) == number


@pytest.mark.parametrize("own", PCK_CAS)
def test_each_kind_of_ca_has_its_own_list(own):
    platform = SimulatedPlatform.create(SEED, NOW, ca=own)
    found = {ca: answer(f"{V4}pckcrl?ca={ca.lower()}&encoding=der", platform, NOW) for ca in PCK_CAS}
    assert found[own].body == platform.collateral(NOW).pck_crl
    for kind, served in found.items():
        chain = unquote_to_bytes(served.headers["SGX-PCK-CRL-Issuer-Chain"])
        ca, root = x509.load_pem_x509_certificates(chain)
        assert f"PCK {kind.capitalize()} CA" in ca.subject.rfc4514_string()
        assert root == platform.pki.root.certificate
        ca.verify_directly_issued_by(root)
        assert x509.load_der_x509_crl(served.body).is_signature_valid(ca.public_key())


@pytest.mark.parametrize("target", [TCB, QE, TDX_TCB, TDX_QE, CRL, f"{V4}rootcacrl", f"{V4}tcbevaluationdatanumbers"])
def test_one_period_has_the_same_bytes_and_the_next_others(target):
    bodies = [answer(target, PLATFORM, NOW + age).body for age in (timedelta(0), timedelta(days=14), RENEWAL_INTERVAL)]
    assert bodies[0] == bodies[1] != bodies[2]
