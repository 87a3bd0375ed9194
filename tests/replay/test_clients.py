import dataclasses

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.helper_process import running_helper
from testkit.replay.clients import (
    CLIENTS,
    ENARX,
    FORTANIX,
    GRAMINE,
    INCLAVARE,
    INTEL_QL_WRAPPER,
    OPEN_ENCLAVE,
    ReplayedClient,
)
from testkit.replay.verification import QuoteVerifier

REJECTED = {AesmErrorCode.ATT_KEY_NOT_INITIALIZED, AesmErrorCode.INVALID_REPORT}
"""Codes that refuse a report for another quoting enclave: 42 for some time after a start, then 47."""


def with_junk(stack):
    """Returns Intel's ql wrapper; its uninitialised variable has this value. The client omits the value 0."""
    init, *rest = INTEL_QL_WRAPPER.quote
    request = {name: stack if name == "4" else field for name, field in init.request.items() if name != "4" or stack}
    return dataclasses.replace(INTEL_QL_WRAPPER, quote=(dataclasses.replace(init, request=request), *rest))


@pytest.mark.parametrize(
    "client",
    [*CLIENTS[:-1], *map(with_junk, (0, 1, 2**64 - 1))],
    ids=lambda client: f"{client.name} {client.quote[0].request.get('4', '')}",
)
def test_every_client_gets_quotes_that_verify(helper, client):
    verifier = QuoteVerifier(helper.state_dir)
    process = ReplayedClient(client, helper.socket)
    for run in (process.run(), process.quote()):
        assert (run.failure, run.renewals) == ("", 0)
        assert run.quotes
        for quote, report_data in run.quotes:
            verdict = verifier.verify(quote, process.enclave, report_data)
            assert verdict.ok, verdict.failures
            assert not verifier.verify(quote, process.enclave, bytes(64)).ok


def test_early_enarx_takes_zeros_for_the_target_info(helper):
    *others, last = ReplayedClient(ENARX, helper.socket).run().exchanges
    assert last.call is MessageKind.GET_QUOTE_EX
    assert last.code in REJECTED
    assert all(exchange.code == 0 for exchange in others)


NEW = dataclasses.replace(DEFAULT_QE_IDENTITY, mr_enclave=bytes(range(32)), isv_svn=2)
NEW_FLAGS = ("--simulated-qe-mrenclave", NEW.mr_enclave.hex(), "--simulated-qe-isvsvn", str(NEW.isv_svn))
RENEWALS = {GRAMINE.name: 1, INCLAVARE.name: 1, OPEN_ENCLAVE.name: 0, FORTANIX.name: 0}
"""Number of answers 42, keyed by client; a client that reads target info before each quote gets none."""


def test_clients_come_through_an_update_of_the_qe():
    """Two real helper processes use one path in turn; the clients started with the old quoting enclave."""
    with running_helper() as old:
        clients = [ReplayedClient(client, old.socket) for client in CLIENTS if client.name in RENEWALS]
        for client in clients:
            assert client.run().failure == ""
        inode = old.socket.stat().st_ino
        with running_helper(*NEW_FLAGS, directory=old.socket.parent) as new:
            new.wait_until(lambda: new.socket.stat().st_ino != inode)
            assert old.stop() == 0
            verifier = QuoteVerifier(new.state_dir)
            for client in clients:
                run = client.quote()
                assert (run.failure, run.renewals) == ("", RENEWALS[client.sequence.name])
                ((quote, report_data),) = run.quotes
                assert verifier.verify(quote, client.enclave, report_data).ok
                assert quote[564 + 64 : 564 + 96] == NEW.mr_enclave
                again = client.quote()
                assert (again.failure, again.renewals) == ("", 0)
