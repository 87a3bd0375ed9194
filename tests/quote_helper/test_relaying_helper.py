import asyncio
import contextlib

import pytest

from confcom.aesm.error_code import AesmErrorCode as Code
from confcom.aesm.error_code import code_of
from confcom.aesm.errors import AesmError
from confcom.client import AesmClient
from confcom.relay.provider import HANGS
from confcom.relay.self_test import open_aesmd
from confcom.simulation.enclave import SimulatedEnclave
from testkit.conditions import until
from testkit.helper_in_process import INIT as ASKS_INIT
from testkit.helper_in_process import SIZE as ASKS_SIZE
from testkit.stub_aesmd import INIT, NUM, QUOTE, SIZE

APPLICATION = SimulatedEnclave.from_name("application")


@pytest.fixture
def root_file(short_dir):
    return short_dir / "root.pem"


@pytest.fixture
def backend(aesmd, root_file):
    return open_aesmd(aesmd.path, expected_root=root_file)


@pytest.fixture
def relaying(in_process, aesmd, root_file):
    def run(hang_seconds=60, **limits):
        def open_backend(metrics):
            def restarted(cause):
                metrics.aesmd_restarts.labels(cause).inc()

            return open_aesmd(aesmd.path, expected_root=root_file, hang_seconds=hang_seconds, on_restart=restarted)

        return in_process(None, open_backend=open_backend, **limits)

    return run


def attest(path):
    client = AesmClient(path, timeout=20)
    assert client.quote_fresh_report(lambda target: APPLICATION.create_report(target, bytes(64))).quote


async def test_clients_calls_take_no_thread(in_process, backend):
    for call in ("identity", "quote_size", "quote"):
        setattr(backend.provider, call, None)  # so blocking calls fail; the self-test has its own provider
    async with in_process(None, open_backend=lambda _: backend) as running:
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
        assert "PCCS" in (await running.get("/readyz"))[1]
        aesmd.hang.set()
        await running.ready()
        assert not request_file.exists()


async def test_no_request_is_lost_while_aesmd_is_restarted(relaying, aesmd):
    """Eight clients attest while aesmd is killed four times. The helper repeats interrupted calls once."""
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
    """A client waits for the next aesmd process; only the start of this process causes a new self-test."""
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


async def test_in_the_pause_between_restarts_a_loss_is_known_at_once(relaying, aesmd):
    """A client waits only if a restart of aesmd is due soon, and then gets a quote after the restart."""
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(3600,)) as running:
        await running.ready()
        aesmd.lose_enclave()
        waiting = asyncio.create_task(asyncio.to_thread(attest, running.socket))
        await running.reaches("aesmd_restarts_requested_total", 1, cause="enclave_lost")
        aesmd.restart()
        await waiting
        aesmd.lose_enclave()
        assert await running.code(ASKS_INIT) == Code.ENCLAVE_LOST
        assert await running.code(ASKS_SIZE) == Code.ENCLAVE_LOST
        aesmd.restart()
        await running.ready()
        assert await running.code(ASKS_INIT) == 0
        assert running.metric("aesmd_restarts_requested_total", cause="enclave_lost") == 1


@pytest.mark.parametrize("fresh", [True, False], ids=["before its first success", "after it"])
async def test_pccs_is_asked_again_for_clients_and_nothing_restarts(relaying, aesmd, request_file, fresh):
    """If PCCS refuses (500, 429, 503), each call gets code 1. Without calls the next self-test is in an hour."""
    if fresh:
        aesmd.codes = dict.fromkeys((INIT, SIZE, QUOTE), Code.UNEXPECTED_ERROR)
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(0.05, 3600)) as running:
        if not fresh:
            await running.ready()
            aesmd.codes = dict.fromkeys((INIT, SIZE, QUOTE), Code.UNEXPECTED_ERROR)
            assert await running.code(ASKS_SIZE) == Code.UNEXPECTED_ERROR
        await running.unready("aesm-unexpected-error")
        asked = aesmd.asked.count(INIT)
        await until(lambda: aesmd.asked.count(INIT) > asked)
        while aesmd.asked.count(INIT) < asked + 3:
            assert await running.code(ASKS_SIZE) == Code.UNEXPECTED_ERROR
        aesmd.recovering = True
        while await running.code(ASKS_SIZE) != 0:
            pass
        await asyncio.to_thread(attest, running.socket)
        assert not request_file.exists()


@pytest.mark.parametrize("code", [44, 12, 1, 43])
async def test_many_refused_clients_make_one_self_test(relaying, aesmd, code):
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(0.2, 3600)) as running:
        await running.ready()
        aesmd.asked.clear()
        aesmd.codes = {SIZE: Code(code)}
        answers = await asyncio.gather(*(running.code(ASKS_SIZE) for _ in range(20)))
        assert set(answers) == {code}
        await running.unready(code_of(code))
        assert aesmd.asked.count(NUM) == 1


async def test_the_next_ones_hang_is_not_the_last_ones_end(relaying, aesmd):
    """While the next aesmd is tested, the end of the previous aesmd is no reason to be not ready."""
    async with relaying(self_test_interval_seconds=3600, self_test_retry_seconds=(0.05,)) as running:
        await running.ready()
        aesmd.terminate()
        await running.unready("aesmd-unreachable")
        aesmd.hang.clear()
        aesmd.start()
        await running.unready("provider-preparing")
        aesmd.hang.set()
        await running.ready()


async def test_the_next_one_is_tried_again_soon(relaying, aesmd):
    """Failures of the previous aesmd do not count. The second pause follows the next aesmd's first failure."""
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
        with contextlib.suppress(AesmError):  # the code may have reached the client
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
        aesmd.restart()  # the helper then tests all calls
        await running.unready(code_of(code))
        assert [await running.code(ask) for ask in (ASKS_INIT, ASKS_SIZE)] == [code, code]
        aesmd.codes = {}
        aesmd.restart()
        await running.ready()
        assert await running.code(ASKS_INIT) == 0


def test_a_helper_process_relays(start_helper, aesmd, root_file):
    flags = ["--aesmd-socket", str(aesmd.path), "--expected-root", str(root_file)]
    attest(start_helper("--provider", "aesmd", *flags).wait_ready().socket)
    assert aesmd.asked[-1] is QUOTE
