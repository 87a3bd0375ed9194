"""The helper in front of a stand-in for Intel's aesmd."""

import asyncio
import contextlib
import errno
import logging
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.error_code import code_of
from confcom.aesm.errors import AesmError
from confcom.client import AesmClient
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_or_create_platform, open_platform
from confcom.relay.instance import SPENT_LINK, AesmdInstance
from confcom.relay.provider import HANGS, UNREACHABLE
from confcom.relay.restart_policy import (
    FIRST_PAUSE_SECONDS,
    FIRST_RESTART_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REQUEST_FILE,
    RestartPolicy,
    request_restart,
)
from confcom.relay.self_test import FULL_TEST_SECONDS, open_aesmd, run_hardware_self_test
from confcom.simulation.enclave import SimulatedEnclave
from testkit.hardware_causes import CAUSES
from testkit.helper_in_process import INIT as ASKS_INIT
from testkit.helper_in_process import SIZE as ASKS_SIZE
from testkit.raised import raises
from testkit.stub_aesmd import INIT, NUM, QUOTE, SIZE, UNINITIALISED_QE_ID, StubAesmd
from testkit.waiting import until

DOCS = Path(__file__).parents[2] / "docs"
APPLICATION = SimulatedEnclave.from_name("application")


@pytest.fixture
def platform(short_dir):
    return SimulatedQuoteProvider(open_or_create_platform(short_dir / "platform").platform)


@pytest.fixture
def root_file(short_dir, platform):
    file = short_dir / "root.pem"
    file.write_bytes(open_platform(short_dir / "platform").pki.root.pem)
    return file


@pytest.fixture
def aesmd(short_dir, platform):
    (short_dir / "private").mkdir()
    stub = StubAesmd(short_dir / "private" / "aesm.socket", platform).start()
    yield stub
    stub.hang.set()
    stub.kill()


@pytest.fixture
def request_file(aesmd):
    return aesmd.path.with_name(REQUEST_FILE)


@pytest.fixture
def backend(aesmd, root_file, clock):
    return open_aesmd(aesmd.path, expected_root=root_file, clock=clock)


@pytest.fixture
def relaying(in_process, aesmd, root_file):
    """Run a helper in front of the stand-in."""

    def run(hang_seconds=60, **limits):
        backend = open_aesmd(aesmd.path, expected_root=root_file, hang_seconds=hang_seconds)
        return in_process(None, open_backend=lambda: backend, **limits)

    return run


def attest(path):
    client = AesmClient(path, timeout=20)
    assert client.quote_fresh_report(lambda target: APPLICATION.create_report(target, bytes(64))).quote


# When only a restart helps.


def failure(code, *, error_code="", lost=False):
    return QuoteProviderError(code, "it failed", error_code=error_code, lost=lost)


ONE, TWO = AesmdInstance(1, 10**9), AesmdInstance(2, 10**9)
REFUSING, UNKNOWN = failure(Code.UNSUPPORTED_ATT_KEY_ID), failure(Code.NO_PLATFORM_CERT_DATA)
LATER = FIRST_RESTART_SECONDS


@pytest.mark.parametrize(
    "failures",
    [
        *(
            pytest.param(
                [(0, one, False), (LATER - 1, one, False), (1, one, True), (LATER, one, False)], id=one.code.name
            )
            for one in (failure(Code(code)) for code in (1, 29, 30, 38, 40, 42, 46, 48))
        ),
        *(
            pytest.param([(3600, one, False)] * 10, id=one.error_code)
            for one in (
                UNKNOWN,
                failure(Code.NETWORK_ERROR),
                failure(Code.ATT_KEY_CERT_DATA_INVALID, error_code="quote-of-another-root"),
                failure(Code.UNEXPECTED_ERROR, error_code="aesmd-malformed"),
                failure(Code.SERVICE_UNAVAILABLE, error_code="aesmd-unreachable", lost=True),
            )
        ),
        pytest.param(
            [(0, REFUSING, False), (LATER, failure(Code.NETWORK_ERROR), False), (1, REFUSING, False)],
            id="a cause outside ends the count",
        ),
    ],
)
def test_which_failures_want_a_restart(clock, failures):
    """Each with the seconds since the one before."""
    policy = RestartPolicy(clock)
    for seconds, error, restart in failures:
        clock.now += seconds
        assert policy.must_restart(ONE, error) is restart


HANGING = failure(Code.SERVICE_UNAVAILABLE, error_code=HANGS, lost=True)


@pytest.mark.parametrize(("error", "spent"), [(HANGING, False), (UNKNOWN, True)], ids=["hangs", "spent"])
def test_a_restart_comes_at_once_and_then_rarely(clock, error, spent):
    policy, pause = RestartPolicy(clock), FIRST_PAUSE_SECONDS

    def restarts_after(seconds, **options):
        clock.now += seconds
        return policy.must_restart(ONE, error, spent=spent, **options)

    assert restarts_after(0)
    for _ in range(8):
        assert not restarts_after(pause - 1)
        assert restarts_after(1)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    assert pause == LONGEST_PAUSE_SECONDS
    assert not restarts_after(FIRST_PAUSE_SECONDS)
    assert restarts_after(0, answers_again=True)
    policy.on_success()
    assert restarts_after(FIRST_PAUSE_SECONDS)


def test_one_instances_failures_are_not_held_against_another(clock):
    policy = RestartPolicy(clock)
    for seconds, instance, restart in ((0, ONE, False), (LATER, TWO, False), (LATER, TWO, True), (3600, None, False)):
        clock.now += seconds
        assert policy.must_restart(instance, REFUSING) is restart


# The file that asks for it.


def test_the_request_names_the_socket_of_the_one_that_must_end(aesmd, request_file):
    instance = AesmdInstance.at(aesmd.path)
    request_restart(aesmd.path, instance)
    shown = subprocess.run(["stat", "-c", "%i %Z", aesmd.path], capture_output=True, text=True, check=True).stdout
    assert request_file.read_text() == shown
    assert [path.name for path in sorted(aesmd.path.parent.iterdir())] == ["aesm.socket", REQUEST_FILE]


def test_a_planted_link_is_not_written_through(aesmd, short_dir):
    victim = short_dir / "victim"
    victim.write_text("kept")
    aesmd.path.with_name(f".{REQUEST_FILE}").symlink_to(victim)
    request_restart(aesmd.path, AesmdInstance.at(aesmd.path))
    assert victim.read_text() == "kept"


def test_the_probe_on_the_page_ends_the_named_one_and_no_other(aesmd, request_file):
    page = (DOCS / "reference" / "quote-helper.md").read_text().partition("    - |\n")[2].partition("```")[0]
    script = page.replace("/var/run/aesmd", str(aesmd.path.parent))

    def healthy():
        return subprocess.run(["sh", "-c", script], check=False).returncode == 0

    assert healthy()
    instance = AesmdInstance.at(aesmd.path)
    request_restart(aesmd.path, instance)
    assert not healthy()
    old = time.time() - 121
    os.utime(request_file, (old, old))
    assert healthy()
    request_file.write_text(f"{replace(instance, inode=instance.inode + 1)}\n")
    assert healthy()


# The self-test.


def test_the_self_test_wants_a_wrong_report_refused(backend, aesmd):
    provider = backend.provider
    assert run_hardware_self_test(provider) == aesmd.provider.identity()
    assert aesmd.asked == [INIT, SIZE, QUOTE]
    provider.quote = lambda *_: None
    with raises("wrong-report-signed", QuoteProviderError, "why", "remedy"):
        run_hardware_self_test(provider)


def test_a_full_self_test_comes_once_a_minute_and_after_a_loss(backend, aesmd, clock, caplog):
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
    aesmd.restart()
    assert asked()
    assert not aesmd.log
    assert not [record for record in caplog.records if "TEST ROOT" not in record.getMessage()]


def test_a_success_ends_the_count_towards_a_restart(backend, aesmd, clock, request_file):
    for _ in range(2):
        aesmd.codes = {NUM: Code.SERVICE_UNAVAILABLE}
        with pytest.raises(QuoteProviderError):
            backend.self_test()
        assert not request_file.exists()
        clock.now += FIRST_RESTART_SECONDS - 1
        aesmd.codes = {}
        backend.self_test()
        clock.now += FULL_TEST_SECONDS


def failed(backend):
    with pytest.raises(QuoteProviderError) as caught:
        backend.self_test()
    return caught.value


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.name)
def test_what_causes_what(backend, aesmd, clock, request_file, cause):
    """The self-test fails with advice, and asks for a restart, at once or after a minute, if that may help."""
    backend.self_test()
    clock.now += FULL_TEST_SECONDS
    codes = zip((INIT, SIZE, QUOTE, NUM), map(Code, (*cause.codes, cause.key_count_code)), strict=True)
    aesmd.codes, aesmd.lines = {kind: code for kind, code in codes if code}, cause.lines
    error = failed(backend)
    assert error.code == cause.codes[0]
    assert cause.advice in error.remedy
    assert set(aesmd.log) == set(cause.lines)
    assert request_file.exists() == (cause.restarts == "at once")
    clock.now += FIRST_RESTART_SECONDS
    failed(backend)
    assert request_file.exists() == (cause.restarts != "no")
    aesmd.codes = {}
    if cause.restarts == "at once":
        assert failed(backend).code == cause.codes[0]
        assert request_file.exists()
        aesmd.restart()
    assert backend.self_test() == aesmd.provider.identity()
    assert not request_file.exists()


@pytest.mark.parametrize("code", [1, 29, 46, 48])
@pytest.mark.parametrize("asker", ["self-test", "client"])
def test_after_a_failed_load_only_another_process_is_ready(backend, aesmd, request_file, asker, code):
    """The next init of such a process succeeds, and its quotes have an uninitialised id of the quoting enclave."""
    aesmd.fail_id_enclave(code)
    if asker == "client":
        with pytest.raises(QuoteProviderError):
            backend.provider.identity()
    for _ in range(3):
        assert failed(backend).code == code
    assert aesmd.asked.count(INIT) > 2
    assert UNINITIALISED_QE_ID in quote_of(backend.provider)
    assert request_file.exists()
    aesmd.restart()
    assert backend.self_test() == aesmd.provider.identity()
    assert UNINITIALISED_QE_ID not in quote_of(backend.provider)


def test_a_helper_that_starts_anew_knows_that_aesmd_is_spent(backend, aesmd, root_file, clock, request_file):
    """Also in the pause after a restart, in which none is requested."""
    for starts_again in (False, True):
        aesmd.fail_id_enclave(Code.OUT_OF_EPC)
        failed(backend)
        assert request_file.exists() is not starts_again
        for _ in range(2):
            anew = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
            assert failed(anew).code is Code.ENCLAVE_LOST
            assert request_file.exists()
        aesmd.restart()
        anew = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
        assert anew.self_test() == backend.self_test() == aesmd.provider.identity()
        clock.now += FULL_TEST_SECONDS


def test_what_is_not_written_is_known_to_the_running_helper_alone(aesmd, root_file, clock):
    """30 is of an aesmd that ends; and the socket's directory may not be written."""
    for trouble in ("ends", "directory"):
        backend = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
        if trouble == "ends":
            aesmd.codes = {INIT: Code.SERVICE_UNAVAILABLE}
        else:
            aesmd.lose_enclave()
            aesmd.path.with_name(SPENT_LINK).mkdir()
        code = failed(backend).code
        aesmd.codes, aesmd.run.codes = {}, {}
        assert failed(backend).code is code
        anew = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
        assert anew.self_test() == aesmd.provider.identity()
        aesmd.restart()


def test_a_loss_after_a_refusal_is_known_to_a_helper_that_starts_anew(backend, aesmd, root_file, clock):
    aesmd.codes = {INIT: Code.SERVICE_UNAVAILABLE}
    failed(backend)
    aesmd.codes = {}
    aesmd.lose_enclave()
    failed(backend)
    aesmd.run.codes = {}
    assert failed(open_aesmd(aesmd.path, expected_root=root_file, clock=clock)).code is Code.ENCLAVE_LOST


def test_a_late_answer_of_the_one_before_changes_nothing(backend, aesmd):
    before = AesmdInstance.at(aesmd.path)
    aesmd.restart()
    aesmd.fail_id_enclave(Code.OUT_OF_EPC)
    failed(backend)
    backend.self_test.record.spend(replace(before, changed_ns=1), failure(Code.SERVICE_UNAVAILABLE))
    assert failed(backend).code is Code.OUT_OF_EPC


def test_no_restart_is_requested_of_one_that_is_gone(backend, aesmd, root_file, clock, request_file):
    aesmd.lose_enclave()
    failed(backend)
    request_file.unlink()
    aesmd.kill()
    anew = open_aesmd(aesmd.path, expected_root=root_file, clock=clock)
    assert failed(anew).error_code == UNREACHABLE
    assert not request_file.exists()


def test_a_spent_one_that_answers_again_is_restarted_after_the_first_pause(backend, aesmd, clock, request_file):
    """Also if restarts before did not help: its cause is gone."""
    for pause in (0, FIRST_PAUSE_SECONDS):
        clock.now += pause
        aesmd.restart()
        aesmd.lose_enclave()
        failed(backend)
        request_file.unlink()
    clock.now += FIRST_PAUSE_SECONDS
    aesmd.restart()
    aesmd.fail_id_enclave(Code.OUT_OF_EPC)
    failed(backend)
    assert not request_file.exists()
    failed(backend)
    assert request_file.exists()


def quote_of(provider):
    return provider.quote(APPLICATION.create_report(provider.identity().target_info, bytes(64)), None).quote


def test_a_platform_that_it_made_up_is_not_reported(backend, aesmd):
    """After a failed load of the ID enclave it asks PCCS for the uninitialised id."""
    aesmd.fail_id_enclave(Code.OUT_OF_EPC)
    failed(backend)
    aesmd.codes = {INIT: Code.NO_PLATFORM_CERT_DATA}
    assert failed(backend).code is Code.OUT_OF_EPC


def test_a_test_root_is_told(aesmd, root_file, caplog):
    for root, told in ((root_file, True), (None, False)):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            open_aesmd(aesmd.path, expected_root=root)
        assert any("TEST ROOT" in record.getMessage() for record in caplog.records) is told


# A helper in front of it.


async def test_clients_calls_take_no_thread(in_process, backend):
    for call in ("identity", "quote_size", "quote"):
        setattr(backend.provider, call, None)  # they would block; the self-test has a provider of its own
    async with in_process(None, open_backend=lambda: backend) as running:
        await running.ready()
        await asyncio.to_thread(attest, running.socket)


async def test_a_quote_that_is_not_relayed_is_a_problem_until_one_is(relaying, aesmd):
    async with relaying(self_test_interval_seconds=0.01) as running:
        await running.ready()
        aesmd.altered = lambda quote: quote[:8] + bytes([quote[8] ^ any(quote)]) + quote[9:]
        with pytest.raises(AesmError):
            await asyncio.to_thread(attest, running.socket)
        await running.unready("quote-not-signed")
        aesmd.altered = lambda quote: quote
        await asyncio.to_thread(attest, running.socket)
        await running.ready()


async def test_a_hang_is_told_and_the_restart_is_requested(relaying, aesmd, request_file):
    aesmd.hang.clear()
    async with relaying(hang_seconds=1, self_test_retry_seconds=(0.05,)) as running:
        await until(request_file.exists)
        await running.unready(HANGS)
        aesmd.hang.set()
        await running.ready()
        assert not request_file.exists()


async def test_no_request_is_lost_while_aesmd_is_restarted(relaying, aesmd):
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
        assert running.metric("provider_losses_total") >= 1


async def test_a_lost_enclave_is_noticed_by_a_client_and_ends_by_a_restart(relaying, aesmd, request_file):
    """The client waits for the next process; nothing else wakes the helper than that."""
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(3600,)) as running:
        await running.ready()
        aesmd.lose_enclave()
        waiting = asyncio.create_task(asyncio.to_thread(attest, running.socket))
        await until(request_file.exists)
        await running.unready("aesm-enclave-lost")
        aesmd.restart()
        await waiting
        await running.ready()
        assert not request_file.exists()
        assert not aesmd.log


async def test_the_next_one_is_tried_again_soon(relaying, aesmd):
    """However often the one before was tried. The second wait leaves time to see the first failure of the next one."""
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(0.01, 1.0, 3600)) as running:
        await running.ready()
        aesmd.lose_enclave()
        waiting = asyncio.create_task(asyncio.to_thread(attest, running.socket))
        await until(lambda: aesmd.asked.count(NUM) == 4)
        aesmd.codes = dict.fromkeys((INIT, SIZE, QUOTE), Code.NETWORK_ERROR)
        aesmd.restart()
        await running.unready("aesm-network-error")
        aesmd.codes = {}
        await running.ready()
        with contextlib.suppress(AesmError):  # it may have got the code
            await waiting


async def test_a_refusal_while_it_ends_is_repeated_on_the_next_one(relaying, aesmd):
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(3600,)) as running:
        await running.ready()
        aesmd.hang.clear()
        aesmd.asked.clear()
        clients = [await running.asking(ASKS_INIT, number) for number in range(1, 3)]
        await until(lambda: aesmd.asked == [INIT, INIT])
        aesmd.terminate()
        await running.reaches("provider_losses_total", 1)
        aesmd.hang.set()
        aesmd.start()
        assert await asyncio.gather(*clients) == [0, 0]


@pytest.mark.parametrize("code", [44, 12, 38, 1])
async def test_while_the_cause_is_known_clients_get_its_code(relaying, aesmd, code):
    async with relaying(self_test_interval_seconds=0.01, self_test_retry_seconds=(0.01,)) as running:
        await running.ready()
        aesmd.codes = dict.fromkeys((INIT, SIZE, QUOTE), Code(code))
        if code == Code.UNSUPPORTED_ATT_KEY_ID:
            aesmd.codes[NUM] = Code.SERVICE_UNAVAILABLE
        aesmd.restart()  # its calls are tested
        await running.unready(code_of(code))
        assert [await running.code(ask) for ask in (ASKS_INIT, ASKS_SIZE)] == [code, code]
        aesmd.codes = {}
        aesmd.restart()
        await running.ready()
        assert await running.code(ASKS_INIT) == 0


async def test_without_a_descriptor_for_its_calls_it_is_not_ready(in_process, backend):
    full = True

    def in_loop():
        if full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return backend.in_loop()

    limited = replace(backend, in_loop=in_loop)
    async with in_process(None, open_backend=lambda: limited) as running:
        await running.unready("self-test-failed")
        full = False
        await running.ready()
        assert await running.code(ASKS_INIT) == 0


def test_a_helper_process_relays(start_helper, aesmd, root_file):
    flags = ["--aesmd-socket", str(aesmd.path), "--expected-root", str(root_file)]
    helper = start_helper("--provider", "aesmd", *flags).wait_ready()
    attest(helper.socket)
    assert aesmd.asked[-1] is QUOTE
