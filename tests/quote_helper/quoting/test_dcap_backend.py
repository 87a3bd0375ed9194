"""The helper with stand-ins for Intel's DCAP libraries, which its child loads."""

import asyncio
import json
import os

import pytest

from confcom.client import AesmClient
from confcom.quote_helper.quoting.dcap_backend import open_dcap
from confcom.quote_helper.quoting.last_quote import anatomy_of
from confcom.quote_helper.quoting.provider_state import Backend
from confcom.quote_helper.quoting.self_test import run_hardware_self_test
from confcom.quote_provider.dcap.frames import Call
from confcom.quote_provider.dcap.provider import DcapQuoteProvider
from confcom.quote_provider.expected_root import read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from testkit.stub_dcap import Action, StubDcap, build_libraries
from testkit.waiting import until

APPLICATION = SimulatedEnclave.from_name("application")
DATA = bytes(range(64))


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    return build_libraries(tmp_path_factory.mktemp("dcap"))


@pytest.fixture
def root_file(short_dir):
    SimulatedQuoteProvider.open_or_create(short_dir / "platform")
    file = short_dir / "root.pem"
    file.write_bytes(open_platform(short_dir / "platform").pki.root.pem)
    return file


@pytest.fixture
def stub(short_dir, root_file):
    stub = StubDcap(short_dir / "stub", SimulatedQuoteProvider.open(short_dir / "platform")).start()
    yield stub
    stub.close()


@pytest.fixture
def call_seconds():
    return 20


@pytest.fixture
def dcap(stub, root_file, libraries, call_seconds):
    provider = DcapQuoteProvider.by_child(
        read_expected_root(root_file),
        environ=stub.environ,
        library_dir=libraries,
        call_seconds=call_seconds,
        pauses=(0,),
    )
    yield provider
    provider.close()


@pytest.fixture
def quoting(in_process, dcap):
    """Run a helper with the provider in this process."""

    def run(**limits):
        backend = Backend(
            dcap,
            lambda: run_hardware_self_test(dcap),
            tells_cause=True,
            last_quote=lambda: anatomy_of(dcap.last_quote),
        )
        return in_process(dcap, open_backend=lambda: backend, **limits)

    return run


def attest(path):
    client = AesmClient(path, timeout=20)
    return client.quote_fresh_report(lambda target: APPLICATION.create_report(target, DATA)).quote


async def test_the_last_quote_of_a_client_is_told(quoting):
    async with quoting() as running:
        await running.ready()
        assert (await running.get("/last-quote"))[0] == 404
        quote = await asyncio.to_thread(attest, running.socket)
        page = json.loads(await running.page("/last-quote"))
        assert page["sections"]["quote"]["size"]["value"] == len(quote)


def test_the_self_test_makes_all_three_calls(dcap, stub):
    assert run_hardware_self_test(dcap) == stub.provider.identity()
    assert stub.asked == [Call.INIT, Call.SIZE, Call.QUOTE]


def test_a_helper_process_quotes_and_ends_its_child(start_helper, stub, root_file, libraries):
    options = ["--dcap-library-dir", str(libraries), "--expected-root", str(root_file), "--log-format", "json"]
    helper = start_helper("--provider", "dcap", *options, environ=stub.environ).wait_ready()
    quote = attest(helper.socket)
    assert Quote.parse(quote).body.report_data == DATA
    assert len(quote) == stub.provider.quote_size()
    (child,) = set(stub.pids)
    lines = {line["message"]: line for line in helper.lines()}
    assert lines["EXPERIMENTAL: quotes come from Intel's DCAP libraries"]["libraries"] == str(libraries)
    assert "DCAP libraries: stub: provider library loaded" in lines
    assert any("TEST ROOT" in message for message in lines)
    helper.process.terminate()
    assert helper.process.wait(30) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_a_helper_without_the_libraries_says_so(in_process, short_dir):
    backend = open_dcap(short_dir, expected_root=None, environ=os.environ)
    async with in_process(backend.provider, open_backend=lambda: backend) as running:
        await running.eventually(lambda: running.unready_for("dcap-library-missing"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [(0xE00D, "aesm-service-unavailable"), (0xE047, "aesm-no-platform-cert-data"), (0xE019, "aesm-network-error")],
)
async def test_the_cause_is_told_until_it_is_gone(quoting, stub, code, reason):
    stub.codes = {Call.INIT: code}
    async with quoting(self_test_retry_seconds=(0.01,)) as running:
        await running.eventually(lambda: running.unready_for(reason))
        stub.codes = {}
        await running.ready()


@pytest.mark.parametrize("call_seconds", [2])
async def test_a_hang_is_told_and_ends(quoting, stub):
    async with quoting(self_test_interval_seconds=0.05, self_test_seconds=0.5) as running:
        await running.ready()
        stub.actions = {Call.INIT: Action.HANG}
        await running.eventually(lambda: running.unready_for("provider-hangs"))
        await running.ready()
        assert await asyncio.to_thread(attest, running.socket)


@pytest.mark.parametrize("action", [Action.SEGFAULT, Action.ABORT])
async def test_a_client_does_not_notice_one_crash(quoting, stub, action):
    async with quoting() as running:
        await running.ready()
        stub.actions = {Call.QUOTE: action}
        assert await asyncio.to_thread(attest, running.socket)
        assert await running.metric("confcom_quote_helper_provider_losses_total") == 1


async def test_no_request_is_lost_while_children_are_killed(quoting, stub, dcap):
    """Eight clients; the child is killed four times, also in the middle of calls. A call is repeated once."""
    async with quoting() as running:
        await running.ready()
        ended = asyncio.Event()
        made = [0] * 8

        async def client(number):
            while not ended.is_set():
                await asyncio.to_thread(attest, running.socket)
                made[number] += 1

        clients = [asyncio.create_task(client(number)) for number in range(len(made))]
        for _ in range(4):
            before = list(made)
            if (child := dcap._keeper._child) is not None:
                child.interrupt()
            await until(lambda before=before: all(now > then + 1 for now, then in zip(made, before, strict=True)))
        ended.set()
        await asyncio.gather(*clients)
        assert len(set(stub.pids)) > 1
