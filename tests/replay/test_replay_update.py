"""An update of the quoting enclave under clients that know the old one: two real helper processes on one path."""

import dataclasses

import pytest

from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.replay.helper import running_helper
from testkit.replay.sequences import FORTANIX, GRAMINE, INCLAVARE, OPEN_ENCLAVE, ReplayedClient
from testkit.replay.verification import QuoteVerifier

NEW = dataclasses.replace(DEFAULT_QE_IDENTITY, mr_enclave=bytes(range(32)), isv_svn=2)
NEW_FLAGS = ("--simulated-qe-mrenclave", NEW.mr_enclave.hex(), "--simulated-qe-isvsvn", str(NEW.isv_svn))
CLIENTS = {GRAMINE: 1, INCLAVARE: 1, OPEN_ENCLAVE: 0, FORTANIX: 0}
"""How often each is told 42: those that ask for the target info before each quote never are."""


@pytest.fixture(scope="module")
def updated():
    """Clients that started with the old enclave, and the helper that has the new one."""
    with running_helper() as old:
        clients = {client: ReplayedClient(client, old.socket) for client in CLIENTS}
        for client in clients.values():
            assert client.run().failure == ""
        inode = old.socket.stat().st_ino
        with running_helper(*NEW_FLAGS, directory=old.socket.parent) as new:
            new.wait_until(lambda: new.socket.stat().st_ino != inode)
            assert old.stop() == 0
            yield clients, new


@pytest.mark.parametrize("sequence", CLIENTS, ids=lambda client: client.name)
def test_a_client_comes_through_an_update_of_the_quoting_enclave(updated, sequence):
    clients, helper = updated
    run = clients[sequence].quote()
    assert (run.failure, run.renewals) == ("", CLIENTS[sequence])
    ((quote, report_data),) = run.quotes
    enclave = clients[sequence].enclave
    verdict = QuoteVerifier(helper.state_dir, identity=NEW).verify(quote, enclave, report_data)
    assert verdict.ok, verdict.failures
    assert quote[564 + 64 : 564 + 96] == NEW.mr_enclave
    again = clients[sequence].quote()
    assert (again.failure, again.renewals) == ("", 0)
