"""The programs on the page about RA-TLS run unchanged; they refuse simulated platforms and use PCS."""

import asyncio
import inspect
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import httpx
import pytest

from confcom.errors import SettingsError
from confcom.testing import SimulatedEnclave
from confcom.verify import NotVerifiedError, SgxPolicy
from confcom.verify.ratls import RatlsTransport, client_context, make_certificate
from testkit.documentation import blocks, files
from testkit.expected_errors import raises
from testkit.verify.ratls_lab import KEY, serving


def test_client_and_service_differ_in_the_platform_alone(attestation, tmp_path):
    client, _, service, _ = blocks("docs/how-to/ra-tls.md", "python")
    names = {}
    exec(client + service, names)
    enclave = SimulatedEnclave(mr_enclave=bytes(32), mr_signer=bytes(range(32)), isv_prod_id=1, isv_svn=3)
    evidence = attestation.quote(b"c")
    names["RatlsTransport"] = partial(names["RatlsTransport"], root=evidence.root)
    kept = SimpleNamespace(prepared=evidence.collateral.prepared(evidence.root))
    names["cache"] = SimpleNamespace(get=lambda _quote: kept)
    key, certificate = names["certify"](lambda report_data: attestation.quote(report_data, enclave=enclave).quote)
    with serving(certificate, key, tmp_path) as peer, pytest.raises(NotVerifiedError) as caught:
        names["send"]("secret", f"https://127.0.0.1:{peer.port}/", enclave.mr_signer.hex())
    assert [check.code for check in caught.value.verdict.failures] == ["platform"]
    assert not any(peer.received)


@pytest.fixture
def served(attestation, tmp_path):
    certificate = make_certificate(lambda report_data: attestation.quote(report_data).quote, KEY)
    with serving(certificate, KEY, tmp_path) as service:
        yield service


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("function", ["by_httpx", "by_aiohttp", "by_urllib3"])
def test_other_clients_send_to_verified_peers_only(function, accepted, attestation, served):
    names = {}
    exec(files("python")["http_clients.py"], names)
    evidence = attestation.quote(b"c")
    mr_enclave = attestation.enclave.mr_enclave if accepted else bytes(32)
    policy = SgxPolicy(mr_enclave=mr_enclave, allow_simulated=True)
    context = client_context(policy, evidence.collateral, evidence.root)
    with nullcontext() if accepted else pytest.raises(NotVerifiedError):
        answer = names[function](f"https://127.0.0.1:{served.port}/", context)
        assert (asyncio.run(answer) if inspect.iscoroutine(answer) else answer) == "hi"
    assert any(served.received) == accepted


def test_httpx_is_told_which_transports_are_not_its_own(attestation):
    evidence = attestation.quote(b"c")
    transport = RatlsTransport(SgxPolicy(mr_enclave=bytes(32)), evidence.collateral, evidence.root)
    with httpx.Client(transport=transport) as client, raises("wrong-type", SettingsError, "remedy"):
        client.get("https://127.0.0.1:1/")
