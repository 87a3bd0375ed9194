"""Fortanix' dcap-ql, the real crate, calls our stand-in for Intel's quoting library: it has Intel's interface.

It needs neither the cluster nor root, but cargo and a C compiler.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from confcom.errors import ConfcomError
from confcom.quote_provider.dcap.frames import Call
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.simulation.enclave import SimulatedEnclave
from e2e.dcap_ql import CLIENT, quote_once
from e2e.rust import find_cargo
from testkit.misled import MisledEnclave
from testkit.replay.verification import QuoteVerifier
from testkit.stub_dcap import DCAP_QL, PROVIDER, StubDcap, build_libraries

pytestmark = pytest.mark.skipif(find_cargo() is None, reason="there is no cargo here to build Fortanix' crate with")

ENCLAVE = SimulatedEnclave.from_name("dcap-ql")
DATA = bytes(range(64))


@pytest.fixture(scope="module")
def program() -> Path:
    CLIENT.fetch()
    return CLIENT.build()


@pytest.fixture
def libraries(tmp_path):
    return build_libraries(tmp_path)


@pytest.fixture
def stub() -> Iterator[StubDcap]:
    with TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short)
        stub = StubDcap(folder / "stub", SimulatedQuoteProvider.open_or_create(folder / "platform")).start()
        yield stub
        stub.close()


@pytest.fixture
def attest(program, libraries, stub):
    """Gets a quote by the crate."""

    def once(enclave=ENCLAVE, **environ):
        return quote_once(program, libraries, environ=stub.environ | environ, enclave=enclave, report_data=DATA)

    return once


def test_the_crate_gets_a_quote_that_verifies(attest, stub):
    got = attest()
    assert stub.asked == [Call.INIT, Call.SIZE, Call.QUOTE]
    assert got.target_info == stub.provider.identity().target_info.encode()
    assert len(got.quote) == stub.provider.quote_size()
    assert got.certification_type == 5
    verdict = QuoteVerifier(stub.path.parent / "platform").verify(got.quote, ENCLAVE, DATA)
    assert verdict.ok, verdict.failures


def test_without_the_provider_library_the_crate_gets_a_quote_of_type_3(attest, libraries):
    (libraries / PROVIDER).unlink()
    got = attest()
    assert (got.certification_type, len(got.quote)) == (3, 1456)


@pytest.mark.parametrize("call", Call)
@pytest.mark.parametrize(
    ("code", "name"), [(0xE00D, "InterfaceUnavailable"), (0xE011, "NoPlatformCertData"), (0xE012, "OutOfEpc")]
)
def test_an_error_of_each_call_reaches_the_crate_by_its_name(attest, stub, call, code, name):
    stub.codes = {call: code}
    with pytest.raises(ConfcomError) as caught:
        attest()
    assert f"{name} (0x{code:04x})" in caught.value.why


def test_a_report_for_another_enclave_is_refused(attest):
    with pytest.raises(ConfcomError) as caught:
        attest(MisledEnclave.from_name("misled"))
    assert "InvalidReport (0xe015)" in caught.value.why


def test_it_is_found_by_its_name_alone(attest, libraries, stub):
    (libraries / DCAP_QL).unlink()
    with pytest.raises(ConfcomError) as caught:
        attest()
    assert "InterfaceUnavailable" in caught.value.why
    assert not stub.asked


def test_as_a_client_of_aesm_it_makes_no_quotes(attest, stub):
    """Any value of SGX_AESM_ADDR makes Intel's library one; our child binds libsgx_qe3_logic, which does not look."""
    with pytest.raises(ConfcomError):
        attest(SGX_AESM_ADDR="")
    assert not stub.asked
