import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.certification import split_pem_chain
from confcom.sgx.collateral_bundle import COLLATERAL_FILES, CollateralBundle
from confcom.sgx.collateral_json import decode_json
from confcom.sgx.tee_type import TeeType
from confcom.simulation.platform import SimulatedPlatform
from testkit.expected_errors import raises

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JUNK, OTHER_PEM = b"junk", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
CHAINS = ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain"]
CRLS = {"pck_crl": "the PCK revocation list", "root_ca_crl": "the root's revocation list"}


@pytest.fixture(scope="module")
def collateral():
    """Collateral whose PEM chains have all the endings that real services use."""
    made = SimulatedPlatform.create(bytes(32), NOW).collateral(NOW)
    return replace(
        made,
        qe_identity_issuer_chain=made.qe_identity_issuer_chain + b"\n",
        pck_crl_issuer_chain=made.pck_crl_issuer_chain + b"\0",
    )


@given(st.lists(st.binary(max_size=10), min_size=7, max_size=7))
def test_each_part_goes_into_its_own_file(parts):
    collateral = CollateralBundle(*parts)
    files = collateral.to_files()
    assert tuple(files) == COLLATERAL_FILES
    assert all(getattr(collateral, name.split(".")[0]) == content for name, content in files.items())


def test_files_come_back_as_the_same_collateral(collateral):
    assert CollateralBundle.from_files(collateral.to_files()) == collateral
    assert CollateralBundle.from_files(collateral.to_files() | {"README": b"other"}) == collateral
    assert collateral.read().tcb_info.fmspc == b"SIMSGX"
    assert collateral.read().qe_identity.isv_prod_id == 1


def test_a_set_is_of_one_tee(collateral):
    vector = Path(__file__).parents[1] / "vectors/genuine-quotes/tdx_quote_collateral.json"
    for_tdx = CollateralBundle(**decode_json(vector.read_bytes()))
    files = for_tdx.to_files()
    assert CollateralBundle.from_files(files) == for_tdx
    assert for_tdx.read().tcb_info.tee is TeeType.TDX
    for name in ("tcb_info.json", "qe_identity.json"):
        with raises("collateral-mixed", MalformedError, "why", "remedy"):
            CollateralBundle.from_files(files | {name: collateral.to_files()[name]})


@pytest.mark.parametrize("missing", [*([name] for name in COLLATERAL_FILES), COLLATERAL_FILES], ids=" ".join)
def test_missing_files_are_named(collateral, missing):
    files = {name: content for name, content in collateral.to_files().items() if name not in missing}
    with raises("collateral-incomplete", MalformedError, "remedy") as caught:
        CollateralBundle.from_files(files)
    assert f" {', '.join(missing)}" in caught.value.why


def certificate_of_version_6(chain):
    first, second = split_pem_chain(chain)
    der = x509.load_pem_x509_certificate(first).public_bytes(Encoding.DER)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1
    return second + ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")).encode()


def list_of_version_6(der):
    version = der.index(b"\x02\x01\x01")
    assert version < 10
    return der[: version + 2] + b"\x05" + der[version + 3 :]


def list_with_a_long_country(der):
    """Organisations become countries. cryptography warns of a country that has not two letters."""
    assert b"\x55\x04\x0a" in der
    return der.replace(b"\x55\x04\x0a", b"\x55\x04\x06")


@pytest.mark.parametrize(
    ("field", "change", "code"),
    [
        ("tcb_info", JUNK, "not-signed-json"),
        ("qe_identity", JUNK, "not-signed-json"),
        *((name, JUNK, "not-pem") for name in CHAINS),
        *((name, OTHER_PEM, "not-a-certificate") for name in CHAINS),
        *((name, certificate_of_version_6, "not-a-certificate") for name in CHAINS),
        *((name, JUNK, "not-a-crl") for name in CRLS),
        *((name, list_of_version_6, "not-a-crl") for name in CRLS),
        *((name, list_with_a_long_country, "not-a-crl") for name in CRLS),
        ("root_ca_crl", lambda der: der.hex().encode(), "not-a-crl"),
    ],
)
def test_a_file_with_other_content_is_refused(collateral, field, change, code):
    content = change(getattr(collateral, field)) if callable(change) else change
    changed = replace(collateral, **{field: content})
    with raises(code, MalformedError, *["remedy"] * (code in {"not-a-crl", "not-pem"})) as caught:
        CollateralBundle.from_files(changed.to_files())
    if code in {"not-a-certificate", "not-a-crl"}:
        assert CRLS.get(field, field) in caught.value.what
        assert caught.value.why == str(caught.value.__cause__)
