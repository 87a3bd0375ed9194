"""The helper in front of a stand-in for Intel's aesmd."""

import asyncio
import logging

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.client import AesmClient
from confcom.quote_helper.quoting.aesmd_backend import AesmdSelfTest, open_aesmd
from confcom.quote_helper.quoting.provider_state import Backend
from confcom.quote_helper.quoting.restart_request import (
    FIRST_RESTART_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REQUEST_FILE,
    RestartPolicy,
    request_restart,
)
from confcom.quote_helper.quoting.self_test import run_hardware_self_test
from confcom.quote_provider.aesmd import HANGS, AesmdQuoteProvider
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.expected_root import read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.simulation.enclave import SimulatedEnclave
from testkit.raised import raises
from testkit.stub_aesmd import INIT, QUOTE, SIZE, StubAesmd

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
def relaying(in_process, provider, root_file, monkeypatch):
    """Run a helper in front of the stand-in, which is a thread of the same process."""
    monkeypatch.setattr(AesmdQuoteProvider, "require_other_process", lambda _: None)

    def run(**limits):
        tester = AesmdQuoteProvider(provider._client.socket_path, read_expected_root(root_file), call_seconds=1)
        self_test = AesmdSelfTest(tester, provider._client.socket_path, clock=lambda: 0.0)
        return in_process(provider, open_backend=lambda: Backend(provider, self_test, tells_cause=True), **limits)

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


class TestRestart:
    def setup_method(self):
        self.now = 0.0
        self.policy = RestartPolicy(lambda: self.now)

    def after(self, seconds, error):
        self.now += seconds
        return self.policy.must_restart(error)

    def test_a_hang_ends_at_once(self):
        assert self.after(0, failure(Code.SERVICE_UNAVAILABLE, error_code=HANGS, lost=True))

    @pytest.mark.parametrize("code", [1, 29, 30, 38, 40, 42, 46, 48])
    def test_what_only_a_restart_ends_is_waited_for_and_restarts_become_rare(self, code):
        error, pause, restarts = failure(Code(code)), FIRST_RESTART_SECONDS, 0
        for _ in range(8):
            assert not self.after(0, error)
            assert not self.after(pause - 1, error)
            assert self.after(1, error)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            restarts += 1
        assert (restarts, pause) == (8, LONGEST_PAUSE_SECONDS)
        self.policy.on_success()
        assert not self.after(0, error)
        assert self.after(FIRST_RESTART_SECONDS, error)

    @pytest.mark.parametrize(
        "error",
        [
            failure(Code.NO_PLATFORM_CERT_DATA),
            failure(Code.NETWORK_ERROR),
            failure(Code.ATT_KEY_CERT_DATA_INVALID, error_code="quote-of-another-root"),
            failure(Code.SERVICE_UNAVAILABLE, error_code="aesmd-unreachable", lost=True),
        ],
        ids=str,
    )
    def test_what_lies_outside_of_it_is_no_reason(self, error):
        assert not any(self.after(3600, error) for _ in range(10))

    def test_a_cause_outside_ends_the_count(self):
        poisoned = failure(Code.UNEXPECTED_ERROR)
        assert not self.after(0, poisoned)
        assert not self.after(FIRST_RESTART_SECONDS, failure(Code.NETWORK_ERROR))
        assert not self.after(1, poisoned)


def test_the_request_names_the_socket_of_the_one_that_must_end(aesmd):
    request_restart(aesmd.path)
    found = aesmd.path.stat()
    file = aesmd.path.with_name(REQUEST_FILE)
    assert file.read_text() == f"{found.st_ino} {int(found.st_ctime)}\n"
    assert [path.name for path in sorted(aesmd.path.parent.iterdir())] == ["aesm.socket", REQUEST_FILE]


async def test_a_hang_is_told_and_the_restart_is_requested(relaying, aesmd):
    aesmd.hang.clear()
    async with relaying(self_test_seconds=0.2, self_test_retry_seconds=(0.05,)) as running:
        await running.eventually(lambda: asyncio.sleep(0, aesmd.path.with_name(REQUEST_FILE).exists()))
        await running.eventually(lambda: running.unready_for(HANGS))
        aesmd.hang.set()
        await running.ready()


@pytest.mark.parametrize(("code", "reason"), [(44, "aesm-no-platform-cert-data"), (12, "aesm-network-error")])
async def test_a_cause_outside_is_told_and_nothing_is_restarted(relaying, aesmd, code, reason):
    aesmd.codes = {INIT: Code(code)}
    async with relaying(self_test_retry_seconds=(0.01,)) as running:
        await running.eventually(lambda: running.unready_for(reason))
        assert not aesmd.path.with_name(REQUEST_FILE).exists()
        aesmd.codes = {}
        await running.ready()


async def test_no_request_is_lost_while_aesmd_is_restarted(relaying, aesmd, attest):
    """Eight clients; the stand-in is killed four times, also in the middle of calls."""
    async with relaying(self_test_retry_seconds=(0.01,), self_test_interval_seconds=0.05) as running:
        await running.ready()
        ended = asyncio.Event()

        async def client():
            made = 0
            while not ended.is_set():
                await asyncio.to_thread(attest, running.socket)
                made += 1
            return made

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for _ in range(4):
            await asyncio.sleep(0.1)
            aesmd.kill()
            await asyncio.sleep(0.1)
            aesmd.start()
        await asyncio.sleep(0.1)
        ended.set()
        assert min(await asyncio.gather(*clients)) > 0
        assert await running.metric("confcom_quote_helper_provider_losses_total") >= 1


@pytest.fixture
def attest():

    def once(path):
        client = AesmClient(path, timeout=20)
        assert client.quote_fresh_report(lambda target: APPLICATION.create_report(target, bytes(64))).quote

    return once


def test_a_test_root_is_told(aesmd, root_file, caplog):
    with caplog.at_level(logging.INFO):
        backend = open_aesmd(aesmd.path, expected_root=root_file)
    assert backend.provider.name == "aesmd"
    assert any("TEST ROOT" in record.getMessage() for record in caplog.records)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        open_aesmd(aesmd.path, expected_root=None)
    assert not any("TEST ROOT" in record.getMessage() for record in caplog.records)
