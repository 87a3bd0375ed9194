"""The programs on the page about RA-TLS run unchanged; they refuse simulated platforms and use PCS."""

from functools import partial
from types import SimpleNamespace

import pytest

from confcom.testing import SimulatedEnclave
from confcom.verify import NotVerifiedError
from testkit.documentation import blocks
from testkit.verify.ratls_lab import serving


def test_client_and_service_differ_in_the_platform_alone(attestation, tmp_path):
    client, service, _ = blocks("docs/how-to/ra-tls.md", "python")
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
