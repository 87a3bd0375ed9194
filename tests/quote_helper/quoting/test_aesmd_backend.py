"""The helper in front of a stand-in for Intel's aesmd."""

import asyncio
import errno
import logging
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.errors import AesmError
from confcom.aesm.messages import InitQuoteExRequest
from confcom.client import AesmClient
from confcom.quote_helper.quoting.aesmd_backend import FULL_TEST_SECONDS, open_aesmd
from confcom.quote_helper.quoting.restart_request import (
    FIRST_PAUSE_SECONDS,
    FIRST_RESTART_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REQUEST_FILE,
    AesmdInstance,
    RestartPolicy,
    request_restart,
    withdraw_request,
)
from confcom.quote_helper.quoting.self_test import run_hardware_self_test
from confcom.quote_provider.aesmd import HANGS, AesmdQuoteProvider
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.expected_root import read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.key_id import ECDSA_P256_KEY_ID
from confcom.simulation.enclave import SimulatedEnclave
from testkit.hardware_causes import CAUSES
from testkit.raised import raises
from testkit.stub_aesmd import INIT, NUM, QUOTE, SIZE, StubAesmd
from testkit.waiting import until

DOCS = Path(__file__).parents[3] / "docs"
ASKS_INIT = InitQuoteExRequest(b_pub_key_id=True, att_key_id=ECDSA_P256_KEY_ID.encode(), buf_size=32)
APPLICATION = SimulatedEnclave.from_name("application")


@pytest.fixture
def root_file(short_dir):
    SimulatedQuoteProvider.open_or_create(short_dir / "platform")
    file = short_dir / "root.pem"
    file.write_bytes(open_platform(short_dir / "platform").pki.root.pem)
    return file


@pytest.fixture
def aesmd(short_dir, root_file):
    (short_dir / "private").mkdir()
    stub = StubAesmd(short_dir / "private" / "aesm.socket", SimulatedQuoteProvider.open(short_dir / "platform")).start()
    yield stub
    stub.hang.set()
    stub.kill()


@pytest.fixture
def provider(aesmd, root_file):
    return AesmdQuoteProvider(aesmd.path, read_expected_root(root_file), call_seconds=1)


@pytest.fixture
def relaying(in_process, aesmd, root_file, monkeypatch):
    """Run a helper in front of the stand-in, which is a thread of the same process."""
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: None)

    def run(**limits):
        backend = open_aesmd(aesmd.path, expected_root=root_file, hang_seconds=1)
        return in_process(None, open_backend=lambda: backend, **limits)

    return run


def test_the_self_test_wants_a_wrong_report_refused(provider, aesmd):
    assert run_hardware_self_test(provider) == aesmd.provider.identity()
    assert aesmd.asked == [INIT, SIZE, QUOTE]
    made = aesmd.provider.quote(APPLICATION.create_report(aesmd.provider.identity().target_info, bytes(64)), None)
    aesmd.provider.quote = lambda *_: made
    with pytest.raises(QuoteProviderError):
        run_hardware_self_test(provider)


def test_who_signs_a_report_that_no_enclave_made_is_not_ready(provider):
    provider.quote = lambda *_: None
    with raises("wrong-report-signed", QuoteProviderError, "why", "remedy"):
        run_hardware_self_test(provider)


def failure(code, *, error_code="", lost=False):
    return QuoteProviderError(code, "it failed", error_code=error_code, lost=lost)


ONE, TWO = AesmdInstance(1, 10**9), AesmdInstance(2, 10**9)


class TestRestart:
    def setup_method(self):
        self.now = 0.0
        self.policy = RestartPolicy(lambda: self.now)

    def after(self, seconds, error, instance=ONE):
        self.now += seconds
        return self.policy.must_restart(instance, error)

    def test_a_hang_ends_at_once_and_restarts_become_rare(self):
        hangs, pause = failure(Code.SERVICE_UNAVAILABLE, error_code=HANGS, lost=True), FIRST_PAUSE_SECONDS
        assert self.after(0, hangs)
        for _ in range(8):
            assert not self.after(pause - 1, hangs)
            assert self.after(1, hangs)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        assert pause == LONGEST_PAUSE_SECONDS
        self.policy.on_success()
        assert self.after(LONGEST_PAUSE_SECONDS, hangs)
        assert self.after(FIRST_PAUSE_SECONDS, hangs)

    @pytest.mark.parametrize("code", [1, 29, 30, 38, 40, 42, 46, 48])
    def test_what_only_a_restart_ends_is_waited_for(self, code):
        assert not self.after(0, failure(Code(code)))
        assert not self.after(FIRST_RESTART_SECONDS - 1, failure(Code(code)))
        assert self.after(1, failure(Code(code)))
        assert not self.after(FIRST_RESTART_SECONDS, failure(Code(code)))

    @pytest.mark.parametrize(
        "error",
        [
            failure(Code.NO_PLATFORM_CERT_DATA),
            failure(Code.NETWORK_ERROR),
            failure(Code.ATT_KEY_CERT_DATA_INVALID, error_code="quote-of-another-root"),
            failure(Code.UNEXPECTED_ERROR, error_code="aesmd-malformed"),
            failure(Code.SERVICE_UNAVAILABLE, error_code="aesmd-is-this-helper"),
            failure(Code.SERVICE_UNAVAILABLE, error_code="aesmd-unreachable", lost=True),
        ],
        ids=lambda error: error.error_code,
    )
    def test_what_lies_outside_of_it_is_no_reason(self, error):
        assert not any(self.after(3600, error) for _ in range(10))

    def test_a_cause_outside_ends_the_count(self):
        poisoned = failure(Code.UNEXPECTED_ERROR)
        assert not self.after(0, poisoned)
        assert not self.after(FIRST_RESTART_SECONDS, failure(Code.NETWORK_ERROR))
        assert not self.after(1, poisoned)

    def test_after_a_failed_load_an_unknown_platform_is_one_that_it_made_up(self):
        assert not self.after(0, failure(Code.UNEXPECTED_ERROR))
        assert not self.after(1, failure(Code.NO_PLATFORM_CERT_DATA))
        assert self.after(FIRST_RESTART_SECONDS, failure(Code.NO_PLATFORM_CERT_DATA))

    def test_what_another_instance_refused_is_not_held_against_this_one(self):
        assert not self.after(0, failure(Code.UNEXPECTED_ERROR))
        assert not self.after(FIRST_RESTART_SECONDS, failure(Code.UNEXPECTED_ERROR), TWO)
        assert self.after(FIRST_RESTART_SECONDS, failure(Code.UNEXPECTED_ERROR), TWO)
        assert not self.after(3600, failure(Code.UNEXPECTED_ERROR), None)


def test_the_request_names_the_socket_of_the_one_that_must_end(aesmd):
    instance = AesmdInstance.at(aesmd.path)
    assert request_restart(aesmd.path, instance)
    shown = subprocess.run(["stat", "-c", "%i %Z", aesmd.path], capture_output=True, text=True, check=True).stdout
    file = aesmd.path.with_name(REQUEST_FILE)
    assert file.read_text() == shown
    assert [path.name for path in sorted(aesmd.path.parent.iterdir())] == ["aesm.socket", REQUEST_FILE]
    withdraw_request(aesmd.path)
    withdraw_request(aesmd.path)
    aesmd.kill()
    aesmd.start()
    assert not request_restart(aesmd.path, replace(instance, changed_ns=0))
    assert not file.exists()


def test_a_planted_link_is_not_written_through(aesmd, short_dir):
    victim = short_dir / "victim"
    victim.write_text("kept")
    aesmd.path.with_name(f".{REQUEST_FILE}").symlink_to(victim)
    assert request_restart(aesmd.path, AesmdInstance.at(aesmd.path))
    assert victim.read_text() == "kept"


def test_the_probe_on_the_page_ends_the_one_that_is_named_and_no_other(aesmd):
    page = (DOCS / "reference" / "quote-helper.md").read_text().partition("    - |\n")[2].partition("```")[0]
    script = page.replace("/var/run/aesmd", str(aesmd.path.parent))
    file = aesmd.path.with_name(REQUEST_FILE)

    def healthy():
        return subprocess.run(["sh", "-c", script], check=False).returncode == 0

    assert healthy()
    instance = AesmdInstance.at(aesmd.path)
    request_restart(aesmd.path, instance)
    assert not healthy()
    old = time.time() - 121
    os.utime(file, (old, old))
    assert healthy()
    file.write_text(f"{replace(instance, inode=instance.inode + 1)}\n")
    assert healthy()


class Ticking:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_full_self_test_comes_once_a_minute_and_after_a_loss(aesmd, root_file, monkeypatch):
    checked = []
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: checked.append(1))
    clock = Ticking()
    backend = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)

    def asked():
        aesmd.asked.clear()
        assert backend.self_test() == aesmd.provider.identity()
        return QUOTE in aesmd.asked

    assert asked()
    assert not asked()
    assert NUM in aesmd.asked
    clock.now += FULL_TEST_SECONDS
    assert asked()
    backend.provider.lost = True
    assert asked()
    assert not asked()
    assert len(checked) == 1
    aesmd.kill()
    aesmd.start()
    assert asked()
    assert len(checked) == 2


def test_a_success_ends_the_count_towards_a_restart(aesmd, root_file, monkeypatch):
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: None)
    clock = Ticking()
    backend = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
    for _ in range(2):
        aesmd.codes = {INIT: Code.UNEXPECTED_ERROR}
        with pytest.raises(QuoteProviderError):
            backend.self_test()
        assert not aesmd.path.with_name(REQUEST_FILE).exists()
        clock.now += FIRST_RESTART_SECONDS - 1
        aesmd.codes = {}
        backend.self_test()
        clock.now += FULL_TEST_SECONDS


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_what_causes_what(aesmd, root_file, monkeypatch, cause):
    """The self-test fails with advice, and asks for a restart after a minute if only that may help."""
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: None)
    clock = Ticking()
    backend = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
    backend.self_test()
    clock.now += FULL_TEST_SECONDS
    aesmd.codes = dict(zip((INIT, SIZE, QUOTE, NUM), map(Code, (*cause.codes, cause.key_count_code)), strict=True))
    aesmd.codes = {kind: code for kind, code in aesmd.codes.items() if code}
    for _ in range(2):
        with pytest.raises(QuoteProviderError) as caught:
            backend.self_test()
        assert caught.value.code == (cause.codes[0] if cause.loads_enclave else cause.key_count_code)
        assert cause.advice in caught.value.remedy
        clock.now += FIRST_RESTART_SECONDS
    assert aesmd.path.with_name(REQUEST_FILE).exists() == cause.restarts
    aesmd.codes = {}
    assert backend.self_test() == aesmd.provider.identity()
    assert not aesmd.path.with_name(REQUEST_FILE).exists()


async def test_while_one_call_runs_the_next_one_waits_in_aesmd(relaying, aesmd):
    async with relaying() as running:
        await running.ready()
        aesmd.hang.clear()
        aesmd.asked.clear()
        clients = [asyncio.create_task(running.ask(ASKS_INIT)) for _ in range(4)]
        await running.metric_reaches("confcom_quote_helper_connections", 4)
        await running.eventually(lambda: asyncio.sleep(0, aesmd.asked == [INIT, INIT]))
        aesmd.hang.set()
        assert {answer.error_code for answer in await asyncio.gather(*clients)} == {0}


async def test_clients_calls_take_no_thread(in_process, aesmd, root_file, monkeypatch, attest):
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: None)
    backend = open_aesmd(aesmd.path, expected_root=root_file)
    for call in ("identity", "quote_size", "quote"):
        setattr(backend.provider, call, None)  # they would block; the self-test has a provider of its own
    async with in_process(None, open_backend=lambda: backend) as running:
        await running.ready()
        await asyncio.to_thread(attest, running.socket)


async def test_a_quote_that_is_not_relayed_is_a_problem_until_one_is(relaying, aesmd, attest):
    async with relaying(self_test_interval_seconds=0.01) as running:
        await running.ready()
        aesmd.altered = lambda quote: quote[:8] + bytes([quote[8] ^ any(quote)]) + quote[9:]
        with pytest.raises(AesmError):
            await asyncio.to_thread(attest, running.socket)
        await running.eventually(lambda: running.unready_for("quote-not-signed"))
        aesmd.altered = lambda quote: quote
        await asyncio.to_thread(attest, running.socket)
        await running.ready()


async def test_a_hang_is_told_and_the_restart_is_requested(relaying, aesmd):
    aesmd.hang.clear()
    async with relaying(self_test_retry_seconds=(0.05,)) as running:
        await running.eventually(lambda: asyncio.sleep(0, aesmd.path.with_name(REQUEST_FILE).exists()))
        await running.eventually(lambda: running.unready_for(HANGS))
        aesmd.hang.set()
        await running.ready()
        assert not aesmd.path.with_name(REQUEST_FILE).exists()


@pytest.mark.parametrize(("code", "reason"), [(44, "aesm-no-platform-cert-data"), (12, "aesm-network-error")])
async def test_a_cause_outside_is_told_and_nothing_is_restarted(relaying, aesmd, code, reason):
    aesmd.codes = {INIT: Code(code)}
    async with relaying(self_test_retry_seconds=(0.01,)) as running:
        await running.eventually(lambda: running.unready_for(reason))
        assert not aesmd.path.with_name(REQUEST_FILE).exists()
        aesmd.codes = {}
        await running.ready()


async def test_no_request_is_lost_while_aesmd_is_restarted(relaying, aesmd, attest):
    """Eight clients; the stand-in is killed four times, also in the middle of calls. A call is repeated once."""
    async with relaying(self_test_retry_seconds=(0.01,), self_test_interval_seconds=0.05) as running:
        await running.ready()
        ended = asyncio.Event()
        made = [0] * 8

        async def client(number):
            while not ended.is_set():
                await asyncio.to_thread(attest, running.socket)
                made[number] += 1

        clients = [asyncio.create_task(client(number)) for number in range(len(made))]
        for _ in range(4):
            aesmd.kill()
            await asyncio.sleep(0.1)
            before = list(made)
            aesmd.start()
            await until(lambda before=before: all(now > then + 1 for now, then in zip(made, before, strict=True)))
        ended.set()
        await asyncio.gather(*clients)
        assert await running.metric("confcom_quote_helper_provider_losses_total") >= 1


@pytest.fixture
def attest():

    def once(path):
        client = AesmClient(path, timeout=20)
        assert client.quote_fresh_report(lambda target: APPLICATION.create_report(target, bytes(64))).quote

    return once


def test_a_helper_process_relays(start_helper, aesmd, root_file, attest):
    flags = ["--aesmd-socket", str(aesmd.path), "--expected-root", str(root_file)]
    helper = start_helper("--provider", "aesmd", *flags).wait_ready()
    attest(helper.socket)
    assert aesmd.asked[-1] is QUOTE


def test_a_quote_helper_can_stand_in_for_aesmd(start_helper, short_dir, root_file, attest):
    upstream = short_dir / "upstream" / "aesm.socket"
    start_helper("--simulated", "--state-dir", str(short_dir / "platform"), "--socket", str(upstream)).wait_ready()
    helper = start_helper(*("--provider", "aesmd", "--aesmd-socket", str(upstream), "--expected-root", str(root_file)))
    attest(helper.wait_ready().socket)


def test_a_test_root_is_told(aesmd, root_file, caplog):
    with caplog.at_level(logging.INFO):
        backend = open_aesmd(aesmd.path, expected_root=root_file)
    assert backend.provider.name == "aesmd"
    assert any("TEST ROOT" in record.getMessage() for record in caplog.records)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        open_aesmd(aesmd.path, expected_root=None)
    assert not any("TEST ROOT" in record.getMessage() for record in caplog.records)


async def test_without_a_descriptor_for_its_calls_the_relay_is_not_ready_until_there_is_one(
    in_process, aesmd, root_file, monkeypatch
):
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: None)
    backend = open_aesmd(aesmd.path, expected_root=root_file, hang_seconds=1)
    full = True

    def in_loop():
        if full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return backend.in_loop()

    limited = replace(backend, in_loop=in_loop)
    async with in_process(None, open_backend=lambda: limited) as running:
        await running.eventually(lambda: running.unready_for("self-test-failed"))
        full = False
        await running.ready()
        assert (await running.ask(ASKS_INIT)).error_code == 0
