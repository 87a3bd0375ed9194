import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.collateral.bundle import COLLATERAL_FILES, Collateral
from testkit.raised import raises

START = datetime(2026, 1, 1, tzinfo=UTC)
DATES = {"issueDate": "2026-01-01T00:00:00Z", "nextUpdate": "2026-01-31T00:00:00Z", "tcbEvaluationDataNumber": 1}
TCB_INFO = {"id": "SGX", "version": 3, "fmspc": "000000000001", "pceId": "0000", "tcbType": 0, "tcbLevels": []} | DATES
QE_IDENTITY = {
    "id": "QE",
    "version": 2,
    "miscselect": "00000000",
    "miscselectMask": "FFFFFFFF",
    "attributes": "00" * 16,
    "attributesMask": "FF" * 16,
    "mrsigner": "11" * 32,
    "isvprodid": 1,
    "tcbLevels": [],
} | DATES


def document(name, value):
    return f'{{"{name}":{json.dumps(value)},"signature":"{"00" * 64}"}}'.encode()


@pytest.fixture(scope="module")
def collateral():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    end = START + timedelta(days=30)
    pem = x509.CertificateBuilder(name, name, key.public_key(), 1, START, end).sign(key, SHA256())
    crl = x509.CertificateRevocationListBuilder(name, START, end).sign(key, SHA256())
    chain = pem.public_bytes(Encoding.PEM) * 2
    der = crl.public_bytes(Encoding.DER)
    return Collateral(
        tcb_info=document("tcbInfo", TCB_INFO),
        tcb_info_issuer_chain=chain,
        qe_identity=document("enclaveIdentity", QE_IDENTITY),
        qe_identity_issuer_chain=chain + b"\n",
        pck_crl=der,
        pck_crl_issuer_chain=chain + b"\0",
        root_ca_crl=der,
    )


def test_files_have_their_names():
    assert COLLATERAL_FILES == (
        "tcb_info.json",
        "tcb_info_issuer_chain.pem",
        "qe_identity.json",
        "qe_identity_issuer_chain.pem",
        "pck_crl.der",
        "pck_crl_issuer_chain.pem",
        "root_ca_crl.der",
    )


@given(st.lists(st.binary(max_size=10), min_size=7, max_size=7))
def test_each_part_goes_into_its_own_file(parts):
    collateral = Collateral(*parts)
    files = collateral.to_files()
    assert tuple(files) == COLLATERAL_FILES
    for name, content in files.items():
        assert getattr(collateral, name.split(".")[0]) == content


def test_files_come_back_as_the_same_collateral(collateral):
    assert Collateral.from_files(collateral.to_files()) == collateral
    assert Collateral.from_files(collateral.to_files() | {"README": b"other"}) == collateral


@pytest.mark.parametrize("name", COLLATERAL_FILES)
def test_a_missing_file_is_named(collateral, name):
    files = collateral.to_files()
    del files[name]
    with raises("collateral-incomplete", MalformedError, "remedy") as caught:
        Collateral.from_files(files)
    assert f" {name}" in caught.value.why


def test_all_missing_files_are_named():
    with raises("collateral-incomplete") as caught:
        Collateral.from_files({})
    assert ", ".join(COLLATERAL_FILES) in caught.value.why


CHAINS = ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"]
CRLS = ["pck_crl", "root_ca_crl"]


@pytest.mark.parametrize(
    ("field", "code"),
    [("tcb_info", "not-signed-json"), ("qe_identity", "not-signed-json")]
    + [(name, "not-pem") for name in CHAINS]
    + [(name, "not-a-crl") for name in CRLS],
)
def test_a_file_with_other_content_is_refused(collateral, field, code):
    with raises(code, MalformedError, "why" if code != "not-pem" else "remedy"):
        Collateral.from_files(replace(collateral, **{field: b"junk"}).to_files())


def require_refused(collateral: Collateral, code: str, field: str, content: bytes) -> None:
    with raises(code, MalformedError, "why", *["remedy"] * (code == "not-a-crl")) as caught:
        Collateral.from_files(replace(collateral, **{field: content}).to_files())
    assert f"{field} " in caught.value.what
    assert caught.value.why == str(caught.value.__cause__)


@pytest.mark.parametrize("field", CHAINS)
def test_a_chain_of_something_else_in_pem_is_refused(collateral, field):
    chain = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    require_refused(collateral, "not-a-certificate", field, chain)


@pytest.mark.parametrize("field", CHAINS)
def test_a_certificate_of_a_version_that_does_not_exist_is_refused(collateral, field):
    first, second = split_pem_chain(getattr(collateral, field))
    der = x509.load_pem_x509_certificate(first).public_bytes(Encoding.DER)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    broken = ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")).encode()
    require_refused(collateral, "not-a-certificate", field, second + broken)


@pytest.mark.parametrize("field", CRLS)
def test_a_revocation_list_of_a_version_that_does_not_exist_is_refused(collateral, field):
    der = getattr(collateral, field)
    version = der.index(b"\x02\x01\x01")
    assert version < 10
    require_refused(collateral, "not-a-crl", field, der[: version + 2] + b"\x05" + der[version + 3 :])


def test_a_crl_in_another_encoding_is_refused(collateral):
    require_refused(collateral, "not-a-crl", "root_ca_crl", collateral.root_ca_crl.hex().encode())


def test_documents_are_taken_apart(collateral):
    assert collateral.read_tcb_info().fmspc == b"\0\0\0\0\0\1"
    assert collateral.read_qe_identity().mr_signer == b"\x11" * 32
