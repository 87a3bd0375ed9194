import asyncio
import concurrent.futures
import contextlib
import os
import socket
import threading
import time
from unittest.mock import Mock

import pytest
import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.framing import encode_frame
from confcom.aesm.message_codec import decode_response, encode_request
from confcom.quote_helper.helper import QuoteHelper
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.provider_state import Backend
from confcom.quote_helper.quoting.self_test import run_self_test
from confcom.quote_helper.settings import parse_settings
from confcom.quote_helper.takeover.takeover_policy import TOKEN_BYTES, Instance
from confcom.quote_provider.base import QuoteProviderError
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import SimulatedEnclave
from testkit.aesm_server_harness import Harness
from testkit.replay import helper as helper_process
from testkit.socket_keeper_harness import RunningKeeper

WAIT_SECONDS = 30
QUICK_LIMITS = {"accept_drain_seconds": 0.01, "hand_back_seconds": 0.01, "self_test_retry_seconds": (0.005,)}


def pytest_asyncio_loop_factories(config, item):
    """The helper runs on uvloop, whose transports differ in detail from asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def ask():
    """Ask a helper process one typed request, and read the typed answer."""
    return lambda helper, request: decode_response(helper.ask(encode_request(request)), request.kind)


@pytest.fixture(scope="session")
def enclave():
    return SimulatedEnclave.from_name("test")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock that stands until its `now` is set."""
    return Clock()


@pytest.fixture(scope="session")
def wait_until():
    return _wait_until


def _wait_until(condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def start_helper(short_dir):
    """Start helper processes in one directory; all are ended afterwards."""
    started = []

    def start(*arguments, wrapper=(), environ=None, stderr=None, alterations=None):
        helper = helper_process.start_helper(
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


class TestProvider:
    """A simulated provider that can be told to block, fail and not be ready."""

    __test__ = False

    def __init__(self, state_dir, *, waits=False):
        self._inner = SimulatedQuoteProvider.open_or_create(state_dir)
        self.waits = waits
        self.max_concurrent_calls = 1
        self.name = "test"
        self.before = lambda: None
        self.calls = 0
        self.last_identity = self._inner.last_identity
        self.last_quote_size = self._inner.last_quote_size

    def identity(self):
        return self._do(self._inner.identity)

    def quote_size(self):
        return self._do(self._inner.quote_size)

    def quote(self, report, qe_report_info):
        return self._do(self._inner.quote, report, qe_report_info)

    def expiries(self, now):
        return {}

    @property
    def in_loop(self):
        """What a Backend has for it."""
        return (lambda: CallsInLoop(self)) if self.waits else None

    def _do(self, call, *arguments):
        self.calls += 1
        self.before()
        return call(*arguments)

    def hold(self):
        """Have calls wait for the event that is returned."""
        release = threading.Event()
        self.before = release.wait
        return release

    def fail(self, error):
        self.before = Mock(side_effect=error)

    def work(self):
        self.before = lambda: None


class CallsInLoop:
    """The calls of a TestProvider that waits, each in a thread, so that they can be held."""

    def __init__(self, provider):
        self._provider = provider
        self.max_concurrent_calls = provider.max_concurrent_calls
        self._closed = False

    def identity(self, done):
        self._start(self._provider.identity, done)

    def quote_size(self, done):
        self._start(self._provider.quote_size, done)

    def quote(self, report, qe_report_info, done):
        self._start(lambda: self._provider.quote(report, qe_report_info), done)

    def close(self):
        self._closed = True

    def _start(self, call, done):
        ended = concurrent.futures.Future()

        def run():
            try:
                ended.set_result(call())
            except BaseException as error:  # noqa: BLE001 # as the provider's own calls pass it on
                ended.set_exception(error)
            if not self._closed:
                loop.call_soon_threadsafe(done, ended.result)

        loop = asyncio.get_running_loop()
        threading.Thread(target=run, daemon=True).start()


@pytest.fixture
def provider(short_dir):
    return TestProvider(short_dir / "state")


@pytest.fixture
def waiting_provider(short_dir):
    return TestProvider(short_dir / "state", waits=True)


@pytest.fixture
def not_yet():
    """What a provider raises that cannot quote yet."""
    return QuoteProviderError(AesmErrorCode.ENCLAVE_LOAD_ERROR, "the quoting enclave is not loaded")


@pytest.fixture
def in_process(short_dir, enclave):
    """Run a helper in this process, with a provider and limits of the test's own."""

    @contextlib.asynccontextmanager
    async def run(provider, *, open_backend=None, make_report=None, **limits):
        arguments = ["--simulated", "--state-dir", f"{short_dir}/state", "--socket", f"{short_dir}/aesm.socket"]
        settings = parse_settings([*arguments, "--probe-address", f"unix:{short_dir}/probe"], prog="test", environ={})
        backend = Backend(
            provider,
            lambda: run_self_test(
                provider, make_report or (lambda target: enclave.create_report(target, bytes(REPORT_DATA_SIZE)))
            ),
            in_loop=provider and provider.in_loop,
        )
        registry = CollectorRegistry()
        helper = QuoteHelper(
            settings,
            open_backend=open_backend or (lambda: backend),
            instance=Instance.started(time.clock_gettime_ns(time.CLOCK_BOOTTIME), os.urandom(TOKEN_BYTES)),
            clock=time.perf_counter,
            limits=HelperLimits(**(QUICK_LIMITS | limits)),
            registry=registry,
        )
        running = RunningHelper(settings, helper, registry)
        running.task = asyncio.create_task(helper.run(running.stopping))
        try:
            await running.bound()
            yield running
        finally:
            running.stopping.set()
            with contextlib.suppress(BaseException):
                async with asyncio.timeout(WAIT_SECONDS):
                    await running.task

    return run


class RunningHelper:
    def __init__(self, settings, helper, registry):
        self.socket = settings.socket
        self.probe = settings.probe_address.path
        self.helper = helper
        self.registry = registry
        self.stopping = asyncio.Event()
        self.task = None

    async def eventually(self, condition):
        async with asyncio.timeout(WAIT_SECONDS):
            while not await condition():  # noqa: ASYNC110 # it is polled over a socket, as a kubelet does
                await asyncio.sleep(0.001)

    async def bound(self):
        async def is_bound():
            return (self.socket.exists() and self.probe.exists()) or self.task.done()

        await self.eventually(is_bound)

    async def get(self, path):
        reader, writer = await asyncio.open_unix_connection(self.probe)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()

    async def ready(self):
        async def is_ready():
            return (await self.get("/readyz"))[0] == 200

        await self.eventually(is_ready)

    async def metric(self, line):
        """Its value now, without the wait for a rendering; None if it is not there."""
        body = generate_latest(self.registry).decode()
        found = [float(text.rpartition(" ")[2]) for text in body.splitlines() if text.startswith(line + " ")]
        return found[0] if found else None

    async def unready_for(self, code):
        """Whether it is not ready for the reason that has this code."""
        return await self.metric(f'confcom_quote_helper_not_ready_info{{code="{code}"}}') == 1

    async def metric_reaches(self, line, value):
        async def reached():
            return await self.metric(line) == value

        await self.eventually(reached)

    async def ask(self, request):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.socket))
        # The loop does not run before, so that no deadline for requests begins.
        client.sendall(encode_frame(encode_request(request)))
        reader, writer = await asyncio.open_unix_connection(sock=client)
        async with asyncio.timeout(WAIT_SECONDS):
            answer = await reader.read()
        writer.close()
        return decode_response(answer[4:], request.kind)


@pytest.fixture
async def serve(short_dir):
    started = []

    def start(provider, **options):
        harness = Harness(short_dir / f"s{len(started)}", provider, **options)
        started.append(harness)
        return harness

    yield start
    for harness in started:
        harness.close()


@pytest.fixture
def path(short_dir):
    """Where keepers bind; every user may get there."""
    short_dir.chmod(0o755)
    return short_dir / "aesm" / "aesm.socket"


@pytest.fixture
async def keeper(path):
    """Make keepers of one path; the number says who started later."""
    made = []

    def make(started, path=path, **options):
        running = RunningKeeper(path, started, **options)
        made.append(running)
        return running

    yield make
    for running in made:
        await running.end()
        running.keeper.close()
