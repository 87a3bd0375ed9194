"""One simulated platform for the whole session: its creation costs more than verifying its quotes."""

import pytest

from confcom.sgx.tee_type import TeeType
from testkit.verify import tampering
from testkit.verify.td_lab import BODIES, TdxLab
from testkit.verify.verify_lab import Lab


@pytest.fixture(scope="session")
def lab():
    return Lab()


@pytest.fixture(scope="session")
def tdx_lab(lab):
    return TdxLab(lab.platform, lab.stranger)


@pytest.fixture(scope="session")
def evidence(lab):
    return lab.evidence()


@pytest.fixture(scope="session")
def tampered(lab, evidence):
    """Evidence of each case by the case's name, made once for all verifiers."""
    return {case.name: case.tamper(lab, evidence) for case in tampering.cases()}


@pytest.fixture(scope="session")
def tampered_tds(tdx_lab):
    """The same for a TD, by the body's version and the case's name."""
    return {
        (body, case.name): case.tamper(tdx_lab, tdx_lab.evidence(codec=codec))
        for body, codec in BODIES.items()
        for case in tampering.cases(TeeType.TDX)
    }


@pytest.fixture(scope="session")
def peer(lab):
    from testkit.verify.ratls_lab import Peer

    return Peer.of(lab)


@pytest.fixture(scope="session")
def td_peer(tdx_lab):
    from testkit.verify.ratls_lab import Peer

    return Peer.of(tdx_lab)
