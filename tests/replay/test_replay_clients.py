"""Each known client against the real helper: what it asks is what was recorded or read, and its quotes verify."""

from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.sgx.report import Report
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire
from testkit.replay.model import State
from testkit.replay.sequences import (
    CLIENTS,
    ENARX,
    FORTANIX,
    GRAMINE,
    INCLAVARE,
    INTEL_QL_WRAPPER,
    INTEL_QUOTE_EX,
    INTEL_SDK_RA,
    OASIS,
    OPEN_ENCLAVE,
    ReplayedClient,
    ql_wrapper,
)
from testkit.replay.verification import QuoteVerifier

VECTORS = Path(__file__).parents[1] / "vectors" / "aesm"
SERVED = [client for client in CLIENTS if client.served]
REJECTED = {AesmErrorCode.ATT_KEY_NOT_INITIALIZED, AesmErrorCode.INVALID_REPORT}
"""What a report is answered that was not made for the quoting enclave: 42 for some time after a start, then 47."""


def recorded(name: str) -> bytes:
    return bytes.fromhex((VECTORS / f"{name}.hex").read_text())


@pytest.fixture(scope="module")
def verifier(helper):
    return QuoteVerifier(helper.state_dir)


@pytest.mark.parametrize("client", SERVED, ids=lambda client: f"{client.name} {client.version}")
def test_every_client_gets_quotes_that_verify(helper, verifier, client):
    process = ReplayedClient(client, helper.socket)
    for run in (process.run(), process.quote()):
        assert run.failure == ""
        assert run.renewals == 0
        assert run.quotes
        for quote, report_data in run.quotes:
            verdict = verifier.verify(quote, process.enclave, report_data)
            assert verdict.ok, verdict.failures


@pytest.mark.parametrize("stack", [0, 1, 32, 2**32, 2**64 - 1])
def test_intels_ql_wrapper_whatever_is_on_its_stack(helper, stack):
    assert ReplayedClient(ql_wrapper(stack), helper.socket).run().failure == ""


def test_a_quote_is_verified_against_its_own_report_data_only(helper, verifier):
    process = ReplayedClient(GRAMINE, helper.socket)
    ((quote, _),) = process.run().quotes
    assert not verifier.verify(quote, process.enclave, bytes(64)).ok


def test_early_enarx_takes_zeros_for_the_target_info_and_is_refused(helper):
    run = ReplayedClient(ENARX, helper.socket).run()
    assert run.exchanges[-1].call is MessageKind.GET_QUOTE_EX
    assert run.code in REJECTED
    assert all(exchange.code == 0 for exchange in run.exchanges[:-1])


CALL_ORDER = {
    INTEL_QUOTE_EX: "21 22 19 15 15 16 17 17",
    INTEL_QL_WRAPPER: "15 15 16 17",
    OPEN_ENCLAVE: "21 22 15 15 16 16 17",
    INTEL_SDK_RA: "19 15 15 16 17",
    GRAMINE: "15 17",
    FORTANIX: "21 22 15 15 16 17",
    OASIS: "21 22 15 15 16 17",
    INCLAVARE: "19 15 15 19 16 17",
    ENARX: "19 15 19 16 17",
}


def test_the_order_of_calls_is_the_references():
    written = {client: " ".join(str(step.call.value) for step in client.start + client.quote) for client in CLIENTS}
    assert written == CALL_ORDER


def intel_state() -> State:
    """What Intel's client knew when it was recorded; its report and qe_report_info were filler."""
    return State(
        SimulatedEnclave.from_name("recorded"),
        report=Report.parse(b"\xaa" * 432),
        nonce=b"\xbb" * 16,
        key_count=1,
        key_id=recorded("resp_intel229_ids")[-256:],
        pub_key_id_size=32,
        quote_size=4600,
    )


INTEL_STEPS = dict(
    zip(
        ["num", "ids", "sel", "init1", "init2", "size", "quote0", "quote"],
        INTEL_QUOTE_EX.start + INTEL_QUOTE_EX.quote,
        strict=True,
    )
)


@pytest.mark.parametrize("name", INTEL_STEPS)
def test_what_is_replayed_of_intels_client_is_what_was_recorded(name):
    state = intel_state()
    expected = recorded(f"intel229_{name}")
    if name == "quote":
        info = b"\xbb" * 960
        assert expected.count(info) == 1
        expected = expected.replace(info, info[:16] + state.enclave.target_info().encode() + bytes(432))
    assert wire.frame(INTEL_STEPS[name].body(state)) == expected


def test_the_list_that_is_selected_from_is_the_recorded_one():
    assert wire.frame(INTEL_SDK_RA.quote[0].body(intel_state())) == recorded("intel229_sellist")


@pytest.mark.parametrize("name", ["num", "ids", "sel", "init1"])
def test_the_recorded_bytes_get_the_recorded_answer(helper, name):
    sent = recorded(f"intel229_{name}")
    assert helper.send(sent[:4], sent[4:]) == recorded(f"resp_intel229_{name}")


def test_a_recorded_list_selects_what_no_list_selects(helper):
    assert helper.send(recorded("intel229_sellist")) == recorded("resp_intel229_sel")


@pytest.mark.parametrize(("name", "facts"), [("init2", (512, 32)), ("size", ())])
def test_the_recorded_bytes_get_the_recorded_shape(helper, name, facts):
    """Where the answer depends on the quoting enclave, only its fields and sizes can be the recorded ones."""

    def shape(frame):
        ((_, sub_message),) = wire.fields(frame[4:]).items()
        return {
            number: len(value) if isinstance(value, bytes) else None
            for number, value in wire.fields(sub_message).items()
        }

    answer = shape(helper.send(recorded(f"intel229_{name}")))
    assert answer == shape(recorded(f"resp_intel229_{name}"))
    assert tuple(size for size in answer.values() if size) == facts


@pytest.mark.parametrize("name", ["quote0", "quote"])
def test_the_recorded_buffer_is_too_small_and_the_recorded_qe_report_info_comes_back(helper, name):
    """Its size is that of the quotes of the quoting enclave that answered when it was recorded."""
    sent = recorded(f"intel229_{name}")
    answer = wire.fields(wire.fields(helper.ask(sent[4:]))[17])
    assert answer.pop(1) == AesmErrorCode.PARAMETER_ERROR
    assert answer == ({3: b"\xbb" * 960} if name == "quote" else {})
