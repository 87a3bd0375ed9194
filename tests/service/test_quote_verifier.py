import asyncio
import os
import signal
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from confcom.collateral import FetchError, Source
from confcom.errors import SettingsError, UnavailableError
from confcom.quote_worker import HOLD_SECONDS, QuoteWorker, Request, Setup
from confcom.service import BusyError, QuoteVerifier, WorkerError, quote_verifier
from confcom.service.workers import TRIES
from confcom.testing import Attestation
from confcom.testing.collateral_service import serve_collateral
from confcom.verify import SgxPolicy, TdxPolicy, TeeType, VerdictKind, tee_of_quote
from testkit.collateral_service import answers_of, send, serving
from testkit.conditions import until
from testkit.expected_errors import raises
from testkit.verify.genuine_quotes import VECTORS
from testkit.worker_processes import FAULTY, workers_of

ATTESTATION = Attestation.create()
EVIDENCE = ATTESTATION.quote(b"challenge")
POLICY = ATTESTATION.policy(b"challenge")
TD_EVIDENCE = ATTESTATION.td_quote(b"challenge")
TD_POLICY = ATTESTATION.td_policy(b"challenge")
EXPECTED = b"challenge".ljust(64, b"\0")


def changed(quote, place):
    forged = bytearray(quote)
    forged[place] ^= 1
    return bytes(forged)


@pytest.fixture
def verifier(tmp_path):
    """Makes verifiers of one worker with the test's root, and a cache of their own."""

    def make(url="http://127.0.0.1:9", policy=POLICY, **options):
        options = {"directory": tmp_path / "cache", "root": ATTESTATION.root, "processes": 1} | options
        return QuoteVerifier(policy, Source(url), **options)

    return make


@pytest.fixture
def source():
    with serving(answers_of(EVIDENCE.collateral)) as served:
        yield served


def test_the_tee_that_a_quote_says(tmp_path):
    (tmp_path / "q").write_bytes(TD_EVIDENCE.quote)
    for quote in (TD_EVIDENCE.quote, TD_EVIDENCE.quote.hex(), tmp_path / "q", TD_EVIDENCE.quote + b"\0"):
        assert tee_of_quote(quote) is TeeType.TDX
    for quote in (EVIDENCE.quote, b"", b"junk", TD_EVIDENCE.quote[:600], "no hexadecimal"):
        assert tee_of_quote(quote) is TeeType.SGX
    with raises("wrong-type", SettingsError, "remedy"):
        tee_of_quote(None)


def debug_quote():
    return ATTESTATION.quote(b"challenge", debug=True).quote


REFUSED = {
    "no bytes": (b"", "format"),
    "no quote": (b"junk", "format"),
    "too long": (bytes(70_000), "format"),
    "a changed report": (changed(EVIDENCE.quote, 100), "signatures"),
    "a changed certificate": (changed(EVIDENCE.quote, 2000), "signatures"),
    "another root's": (Attestation.create().quote(b"challenge").quote, "root"),
    "bytes after it": (EVIDENCE.quote + b"\0", "trailing-bytes"),
    "a TD's": ((VECTORS / "tdx_quote").read_bytes(), "tee"),
}


async def test_a_good_quote_is_verified_and_a_false_one_causes_no_fetch(verifier, source):
    service, url = source
    async with verifier(url) as running:
        for name, (quote, code) in REFUSED.items():
            verdict = await running.verify(quote)
            assert code in {check.code for check in verdict.failures}, name
            assert verdict.kind in {VerdictKind.NOT_AUTHENTIC, VerdictKind.UNUSABLE}, name
        assert not service.asked
        for form in (EVIDENCE.quote, EVIDENCE.quote.hex()):
            assert (await running.verify(form)).require_ok().mr_enclave == ATTESTATION.enclave.mr_enclave
        assert len(service.asked) == 4
        again = {name: await running.verify(quote) for name, (quote, _) in REFUSED.items()}
        assert not [name for name, verdict in again.items() if verdict.ok]
        assert (await running.verify(debug_quote())).failures[0].code == "debug"
        assert len(service.asked) == 4


async def test_a_verifier_of_tds(verifier):
    with serve_collateral(ATTESTATION) as source:
        async with verifier(source.url, replace(TD_POLICY, report_data=None)) as running:
            for body in ("1.0", "1.5", "1.5ex"):
                quote = ATTESTATION.td_quote(b"challenge", body=body).quote
                claims = (await running.verify(quote, report_data=EXPECTED)).require_ok()
                assert claims.mr_td == ATTESTATION.td.mr_td
            for code, defect in {"mr-td": {"mr_td": bytes(48)}, "rtmr1": {"rtmr1": bytes(48)}}.items():
                verdict = await running.verify(ATTESTATION.td_quote(b"challenge", **defect).quote, report_data=EXPECTED)
                assert [check.code for check in verdict.failures] == [code]


async def test_a_quote_of_the_other_tee_causes_no_fetch(verifier, source):
    service, url = source
    service.answers |= answers_of(TD_EVIDENCE.collateral)
    for policy, own, other in ((POLICY, EVIDENCE, TD_EVIDENCE), (TD_POLICY, TD_EVIDENCE, EVIDENCE)):
        async with verifier(url, policy) as running:
            before = len(service.asked)
            for _ in range(2):
                verdict = await running.verify(other.quote)
                assert [check.code for check in verdict.failures] == ["tee", "collateral"]
                assert (verdict.kind, verdict.claims) == (VerdictKind.UNUSABLE, None)
                assert len(service.asked) == before
                assert (await running.verify(own.quote)).ok
                before = len(service.asked)
        assert tee_of_quote(own.quote) is policy.tee


async def test_report_data_are_of_one_call(verifier, source):
    policy = SgxPolicy(mr_enclave=ATTESTATION.enclave.mr_enclave, allow_simulated=True)
    async with verifier(source[1], policy) as running:
        assert (await running.verify(EVIDENCE.quote, report_data=EXPECTED)).ok
        for other in (bytes(64), None):
            verdict = await running.verify(EVIDENCE.quote, report_data=other)
            assert [check.code for check in verdict.failures] == ["report-data"]


@pytest.mark.parametrize("answers", [{}, {"tcb": (200, {}, b"junk")}, {"tcb": (500, {}, b"")}])
async def test_the_sources_fault_is_no_verdict(verifier, answers):
    with serving(answers) as (_, url):
        async with verifier(url) as running:
            with pytest.raises(FetchError) as caught:
                await running.verify(EVIDENCE.quote)
            assert isinstance(caught.value, UnavailableError)
            assert (await running.verify(b"junk")).kind is VerdictKind.UNUSABLE


async def test_collateral_that_expires_in_use_is_no_verdict(verifier, source):
    now = datetime.now(UTC)
    async with verifier(source[1], clock=lambda: now) as running:
        assert (await running.verify(EVIDENCE.quote)).ok
        now = EVIDENCE.collateral.expires + timedelta(seconds=1)
        with raises("collateral", FetchError, "why", "remedy"):
            await running.verify(EVIDENCE.quote)
        assert (await running.verify(changed(EVIDENCE.quote, 100))).kind is VerdictKind.NOT_AUTHENTIC


async def test_more_callers_than_the_bound_are_told_at_once(verifier):
    asked, released = threading.Event(), threading.Event()

    def wait(_handler):
        asked.set()
        released.wait(20)

    with serving({"tcb": wait}) as (_, url):
        async with verifier(url, max_callers=1) as running:
            waiting = asyncio.create_task(running.verify(EVIDENCE.quote))
            await asyncio.to_thread(asked.wait)
            with raises("verifier-busy", BusyError, "why", "remedy"):
                await running.verify(EVIDENCE.quote)
            released.set()
            with pytest.raises(FetchError):
                await waiting
            assert (await running.verify(b"")).kind is VerdictKind.UNUSABLE


async def test_it_verifies_in_its_block_only(verifier, monkeypatch):
    made = verifier()
    with raises("verifier-not-running", WorkerError, "remedy"):
        await made.verify(EVIDENCE.quote)
    async with made:
        with raises("wrong-value", SettingsError):
            await made.__aenter__()
    assert workers_of(os.getpid()) == []
    for interpreter in ("/bin/false", "/nonexistent"):
        monkeypatch.setattr(sys, "executable", interpreter)
        with raises("verifier-not-running", WorkerError, "why", "remedy"):
            await made.__aenter__()


async def test_who_waits_at_its_end_is_told(verifier):
    made = verifier()
    async with made:
        waiting = [asyncio.create_task(made.verify(EVIDENCE.quote)) for _ in range(5)]
        waiting[2].cancel()
        await asyncio.sleep(0)
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in done} == {WorkerError, asyncio.CancelledError}


async def test_who_gets_collateral_after_its_end_is_told(verifier):
    answers = answers_of(EVIDENCE.collateral)
    asked, released = threading.Event(), threading.Event()

    def answer(handler):
        asked.set()
        released.wait(20)
        send(handler, *answers["tcb"])

    with serving(answers | {"tcb": answer}) as (_, url):
        async with verifier(url) as running:
            waiting = asyncio.create_task(running.verify(EVIDENCE.quote))
            await asyncio.to_thread(asked.wait)
        released.set()
        with raises("verifier-not-running", WorkerError, "why", "remedy"):
            await waiting


@pytest.mark.parametrize(("code", "arguments"), [
    ("wrong-type", {"policy": None}),
    ("wrong-value", {"policy": SgxPolicy()}),
    ("wrong-value", {"policy": TdxPolicy(rtmr1=bytes(48))}),
    ("wrong-type", {"source": "http://127.0.0.1"}),
    ("wrong-type", {"root": b"root"}),
    ("wrong-type", {"processes": 2.0}),
    ("wrong-value", {"processes": 0}),
    ("wrong-value", {"processes": 257}),
    ("wrong-value", {"max_callers": 0}),
    ("wrong-value", {"seconds": 0}),
])  # fmt: skip
def test_wrong_arguments_are_refused(tmp_path, code, arguments):
    arguments = {"policy": POLICY, "source": Source("http://127.0.0.1"), "directory": tmp_path} | arguments
    with raises(code, SettingsError, "remedy"):
        QuoteVerifier(arguments.pop("policy"), arguments.pop("source"), **arguments)


@pytest.mark.parametrize(("environ", "directory"), [
    ({"XDG_CACHE_HOME": "{}/own"}, "own/confcom/collateral"),
    ({"XDG_CACHE_HOME": "relative", "HOME": "{}"}, ".cache/confcom/collateral"),
    ({}, None),
])  # fmt: skip
async def test_the_directory_has_a_default(environ, directory, verifier, source, *, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, environ.get(name, "").format(tmp_path))
    if directory is None:
        with raises("wrong-value", SettingsError, "why", "remedy"):
            verifier(source[1], directory=None)
        return
    async with verifier(source[1], directory=None) as running:
        assert (await running.verify(EVIDENCE.quote)).ok
    assert (tmp_path / directory).stat().st_mode & 0o777 == 0o700


async def test_wrong_report_data_are_the_callers_mistake(verifier):
    async with verifier() as running:
        for code, value in {"wrong-value": b"short", "wrong-type": 5}.items():
            with raises(code, SettingsError, "remedy"):
                await running.verify(EVIDENCE.quote, report_data=value)


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "sitecustomize.py").write_text(FAULTY.format(once=str(tmp_path / "once")))
    monkeypatch.syspath_prepend(tmp_path / "faults")


@pytest.mark.usefixtures("faulty")
async def test_a_worker_that_ends_is_replaced_and_its_quote_tried_once_more(verifier, source, tmp_path, monkeypatch):
    monkeypatch.setattr(quote_verifier, "VERIFY_SECONDS", 2)
    async with verifier(source[1], processes=2) as running:
        assert (await running.verify(EVIDENCE.quote + b"crash once")).ok
        for fault, place in ((b"crash", 0), (b"crash", 1), (b"crash", 3), (b"hang", 1)):
            quotes = [EVIDENCE.quote] * 8
            quotes[place] += fault
            verdicts = await asyncio.gather(*map(running.verify, quotes))
            assert [str(verdict) for verdict in verdicts if not verdict.ok] == ["unusable: verifier-ended"]
            assert not verdicts[place].ok
        assert (tmp_path / "once.crashes").read_text() == "..." * TRIES  # only the cause of an end is tried once more
        await until(lambda: len(workers_of(os.getpid())) == 2)
        before = workers_of(os.getpid())
        os.kill(before[0], signal.SIGKILL)
        assert {verdict.ok for verdict in await asyncio.gather(*map(running.verify, [EVIDENCE.quote] * 8))} == {True}
        # The other worker may answer before the kernel ends the killed one.
        await until(lambda: len(set(before) & set(workers_of(os.getpid()))) == 1)
    assert workers_of(os.getpid()) == []


async def test_a_worker_that_cannot_be_replaced_is_tried_again_on_demand(verifier, source, monkeypatch):
    async with verifier(source[1]) as running:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/bin/false")
            os.kill(workers_of(os.getpid())[0], signal.SIGKILL)
            for _ in range(2):
                with raises("verifier-not-running", WorkerError, "why", "remedy"):
                    await running.verify(EVIDENCE.quote)
        assert (await running.verify(EVIDENCE.quote)).ok


def test_a_worker_asks_for_collateral_again_after_a_minute(clock):
    worker = QuoteWorker(Setup(POLICY, ATTESTATION.root, 1), clock)
    bare = Request(EVIDENCE.quote, None, datetime.now(UTC))
    assert worker.answer(bare) is None
    assert worker.answer(bare._replace(collateral=EVIDENCE.collateral)).ok
    clock.now += HOLD_SECONDS - 1
    assert worker.answer(bare).ok
    clock.now += 1
    assert worker.answer(bare) is None
    assert not worker.answer(bare._replace(quote=changed(EVIDENCE.quote, 100))).ok
