"""That a replayed client notices what a real one would, and asks again when it is told to."""

import dataclasses

import pytest

from confcom.aesm.messages import MessageKind
from confcom.sgx.report import Report
from confcom.simulation.enclave import SimulatedEnclave
from testkit.replay import wire
from testkit.replay.proxy import spoiling
from testkit.replay.sequences import (
    FORTANIX,
    GRAMINE,
    INCLAVARE,
    INTEL_QL_WRAPPER,
    INTEL_QUOTE_EX,
    INTEL_SDK_RA,
    OASIS,
    OPEN_ENCLAVE,
    ReplayedClient,
)


def stale(times: int):
    """The quoting enclave changed, and changed again, ..."""

    def spoil(call, number, answer):
        told = wire.frame(wire.data(17, wire.number(1, 42)))
        return (told if call is MessageKind.GET_QUOTE_EX and number < times else answer,)

    return spoil


@pytest.mark.parametrize(
    "case",
    [
        (GRAMINE, 1, 1, ""),
        (GRAMINE, 5, 5, ""),
        (GRAMINE, 6, 5, "GetQuoteEx: error code 42"),
        (OPEN_ENCLAVE, 1, 1, ""),
        (OPEN_ENCLAVE, 2, 1, "GetQuoteEx: error code 42"),
        (INCLAVARE, 1, 1, ""),
        (FORTANIX, 1, 1, ""),
    ],
    ids=lambda case: f"{case[0].name} {case[1]}",
)
def test_after_42_a_client_asks_for_the_target_info_again(helper, tmp_path, abstract_name, case):
    client, times, renewals, failure = case
    path = tmp_path / "s"
    with spoiling(helper, path, stale(times)):
        process = ReplayedClient(client, path, abstract_name=abstract_name)
        run = process.run()
    assert (run.failure, run.renewals) == (failure, renewals)
    calls = [exchange.call for exchange in run.exchanges]
    assert calls.count(MessageKind.GET_QUOTE_EX) == renewals + 1
    if not failure:
        assert len(run.quotes) == 1


def changed(call: MessageKind, change, number: int = 0):
    """Change the fields of one answer."""

    def spoil(asked, count, answer):
        if asked is not call or count != number:
            return (answer,)
        fields = wire.fields(wire.fields(answer[4:])[call.value])
        change(fields)
        return (wire.frame(wire.data(call.value, encoded(fields))),)

    return spoil


def encoded(fields) -> bytes:
    return b"".join(
        wire.data(number, value) if isinstance(value, bytes) else wire.number(number, value)
        for number, value in fields.items()
    )


def other_field(call: MessageKind):
    """The answer in another field: Intel's client crashes on it."""
    return lambda asked, _, answer: ((wire.frame(wire.data(20, wire.number(1, 0))) if asked is call else answer),)


def flip(at: int, field: int):
    def change(fields):
        fields[field] = fields[field][:at] + bytes([fields[field][at] ^ 1]) + fields[field][at + 1 :]

    return change


def cut_to(size: int, field: int):
    return lambda fields: fields.update({field: fields[field][:size]})


def in_pieces(size: int):
    def spoil(_, __, answer):
        return tuple(answer[at : at + size] for at in range(0, len(answer), size))

    return spoil


NUM, IDS = MessageKind.GET_SUPPORTED_ATT_KEY_ID_NUM, MessageKind.GET_SUPPORTED_ATT_KEY_IDS
INIT, SIZE, QUOTE = MessageKind.INIT_QUOTE_EX, MessageKind.GET_QUOTE_SIZE_EX, MessageKind.GET_QUOTE_EX
SPOILT = {
    "no errorCode": (OPEN_ENCLAVE, changed(INIT, lambda f: f.pop(1)), "missing required fields"),
    "field 20": (OASIS, other_field(SIZE), "wrong message: fields [20]"),
    "closed without an answer": (FORTANIX, lambda *_: (), "0 of 4 bytes, then the end"),
    "half an answer": (GRAMINE, lambda _c, _n, answer: (answer[:100],), "then the end"),
    "no protobuf": (GRAMINE, lambda *_: (wire.frame(b"\xff" * 12),), "not protobuf"),
    "no key": (OASIS, changed(NUM, lambda f: f.update({2: 0})), "no attestation"),
    "ids of another size": (FORTANIX, changed(IDS, cut_to(255, 2)), "wrong buffer size"),
    "an unknown algorithm": (OPEN_ENCLAVE, changed(IDS, flip(154, 2)), "cannot be mapped"),
    "another size of the public key id": (INTEL_QL_WRAPPER, changed(INIT, lambda f: f.update({3: 33})), "is not 32"),
    "no size of the public key id": (INTEL_QUOTE_EX, changed(INIT, lambda f: f.pop(3), 1), "the size it says"),
    "target info of another size": (GRAMINE, changed(INIT, cut_to(511, 2)), "invalid target info"),
    "a size that changes": (OPEN_ENCLAVE, changed(SIZE, lambda f: f.update({2: f[2] + 1}), 1), "changed"),
    "a size with slack": (INCLAVARE, changed(SIZE, lambda f: f.update({2: f[2] + 1})), "a quote of"),
    "a quote not padded": (GRAMINE, changed(QUOTE, cut_to(5000, 2)), "in a buffer of 8192"),
    "padding that is not zeros": (GRAMINE, changed(QUOTE, flip(8191, 2)), "padding"),
    "a quote over another report": (GRAMINE, changed(QUOTE, flip(48 + 320, 2)), "another report"),
    "a quote by another key": (OASIS, changed(QUOTE, flip(564 + 320, 2)), "another key"),
    "no qe_report_info": (FORTANIX, changed(QUOTE, lambda f: f.pop(3)), "out of range"),
    "qe_report_info for another nonce": (FORTANIX, changed(QUOTE, flip(0, 3)), "another nonce"),
    "qe_report_info unasked": (GRAMINE, changed(QUOTE, lambda f: f.update({3: bytes(960)})), "not asked for"),
    "a forged QE report": (INTEL_SDK_RA, changed(QUOTE, flip(959, 3)), "SGX_ERROR_MAC_MISMATCH"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_client_notices_an_answer_that_is_wrong(helper, tmp_path, abstract_name, name):
    client, spoil, complaint = SPOILT[name]
    path = tmp_path / "s"
    with spoiling(helper, path, spoil):
        run = ReplayedClient(client, path, abstract_name=abstract_name).run()
    assert complaint in run.failure
    assert run.quotes == ()


def by_an_impostor(qe, target):
    """The QE's report is right, but its maker is not the one that InitQuoteEx named."""
    return SimulatedEnclave.from_name("impostor").create_report(target, qe.report_data)


def about_another_quote(qe, target):
    maker = SimulatedEnclave.from_name("same")
    maker = dataclasses.replace(maker, mr_enclave=qe.mr_enclave, flags=qe.flags, xfrm=qe.xfrm)
    return maker.create_report(target, bytes(64))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [(by_an_impostor, "another enclave than the target info named"), (about_another_quote, "another nonce or quote")],
)
def test_intels_enclave_notices_another_qe_report(helper, tmp_path, make, complaint):
    process = ReplayedClient(INTEL_SDK_RA, tmp_path / "s")

    def exchange(fields):
        qe = Report.parse(fields[3][528:]).body
        fields[3] = fields[3][:528] + make(qe, process.enclave.target_info()).encode()

    with spoiling(helper, tmp_path / "s", changed(QUOTE, exchange)):
        assert complaint in process.run().failure


def test_a_client_that_reads_on_takes_an_answer_in_pieces(helper, tmp_path):
    path = tmp_path / "s"
    with spoiling(helper, path, in_pieces(64)):
        assert ReplayedClient(FORTANIX, path).run().failure == ""


@pytest.mark.parametrize(
    ("client", "end"), [(OPEN_ENCLAVE, "a short read"), (OASIS, "the end")], ids=lambda x: str(x)[:9]
)
def test_a_client_that_reads_once_gives_up_where_another_reads_on(helper, tmp_path, client, end):
    path = tmp_path / "s"
    with spoiling(helper, path, lambda _c, _n, answer: (answer[:8],)):
        run = ReplayedClient(client, path).run()
    assert run.failure == f"GetSupportedAttKeyIDNum: 4 of 7 bytes, then {end}"
