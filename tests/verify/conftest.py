"""One simulated platform for the whole session: its creation costs more than verifying its quotes."""

import pytest

from testkit.verify import tampering
from testkit.verify.td_lab import BODIES, td_body, td_evidence
from testkit.verify.verify_lab import Lab


@pytest.fixture(scope="session")
def lab():
    return Lab()


@pytest.fixture(scope="session")
def evidence(lab):
    return lab.evidence()


@pytest.fixture(scope="session")
def tampered(lab, evidence):
    """Evidence of each case by the case's name, made once for all verifiers."""
    return {case.name: case.tamper(lab, evidence) for case in tampering.cases()}


@pytest.fixture(scope="session")
def tampered_tds(lab):
    """The same for a TD, by the body's kind and the case's name."""
    return {
        (kind, case.name): case.tamper(lab, td_evidence(lab, td_body(codec), version))
        for kind, (version, codec) in BODIES.items()
        for case in tampering.cases(of_a_td=True)
    }


@pytest.fixture(scope="session")
def peer(lab, evidence):
    from testkit.verify.ratls_lab import Peer

    return Peer.of(lab, evidence)


@pytest.fixture(scope="session")
def td_peer(lab):
    from testkit.verify.ratls_lab import TdPeer

    return TdPeer.of_td(lab)
