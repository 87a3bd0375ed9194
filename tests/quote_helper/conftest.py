import pytest
import uvloop
from prometheus_client import CollectorRegistry

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import GetQuoteExRequest
from confcom.quote_provider.base import QuoteProviderError
from confcom.sgx.report import TargetInfo
from testkit import helper_process
from testkit.helper_in_process import ENCLAVE, WAIT_SECONDS, RunningKeeper, RunningServer, TestProvider, running_helper


def pytest_asyncio_loop_factories(config, item):
    """Run these tests on uvloop, as the helper does; uvloop's transports differ from those of asyncio."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def enclave():
    return ENCLAVE


QUICK = {"rendering_seconds": 0, "limits": {"accept_drain_seconds": 0.05}}
"""Alterations for quick tests: each request gets newly rendered metrics; a stop barely waits for clients."""


@pytest.fixture
def start_helper(short_dir):
    """Starts helper processes in one directory, and kills all of them afterwards."""
    started = []

    def start(*arguments, wrapper=(), environ=None, stderr=None, alterations=QUICK):
        helper = helper_process.start_helper(
            *(("--handover-seconds=0",) if alterations is QUICK else ()),
            *arguments,
            directory=short_dir,
            path=short_dir / "aesm" / "aesm.socket",
            inside=lambda command: (*wrapper, *command),
            environ=environ or {},
            stderr=stderr,
            alterations=alterations,
        )
        started.append(helper.process)
        return helper

    yield start
    for process in started:
        process.kill()
        process.wait(WAIT_SECONDS)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def request_(enclave):
    """A request for a quote; its report data has bytes that a test can recognise in a log."""
    return GetQuoteExRequest(enclave.create_report(TargetInfo.parse(bytes(512)), bytes(range(64))).encode(), 8192)


@pytest.fixture
def provider():
    return TestProvider()


@pytest.fixture
def waiting_provider():
    return TestProvider(waits=True)


@pytest.fixture(params=[False, True], ids=["inline", "waits"])
def either(request):
    return TestProvider(waits=request.param)


@pytest.fixture
def not_yet():
    """Error that a provider raises if it cannot quote yet."""
    return QuoteProviderError(AesmErrorCode.SERVICE_UNAVAILABLE, "the quoting enclave is not loaded")


@pytest.fixture
def in_process(short_dir):
    return lambda provider, **options: running_helper(short_dir, provider, **options)


@pytest.fixture
async def serve(short_dir):
    started = []

    def start(provider, **options):
        server = RunningServer(short_dir / f"s{len(started)}", provider, **options)
        started.append(server)
        return server

    yield start
    for server in started:
        server.close()


@pytest.fixture
def path(short_dir):
    """Path for keepers' sockets in a directory that all users may enter."""
    short_dir.chmod(0o755)
    return short_dir / "aesm" / "aesm.socket"


@pytest.fixture
async def keeper(path, clock):
    """Makes socket keepers for one path; a higher number `started` means a later start."""
    made = []

    def make(started, path=path, **options):
        running = RunningKeeper(path, started, clock, **options)
        made.append(running)
        return running

    yield make
    for running in made:
        await running.end()
        running.keeper.close()
