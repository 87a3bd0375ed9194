"""The quote helper's life: bind at once, prepare, serve, drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from confcom.daemon.logs import LogLimiter
from confcom.daemon.probes import ProbeServer, Readiness, standard_routes
from confcom.daemon.supervision import run_until_stopped
from confcom.daemon.unix_socket import bind_unix_socket
from confcom.daemon.worker import SerialWorker
from confcom.quote_helper.limits import BACKLOG, DIRECTORY_MODE, SOCKET_MODE, HelperLimits
from confcom.quote_helper.metrics import HelperMetrics
from confcom.quote_helper.self_test import ReportMaker, run_self_test
from confcom.quote_helper.server import AesmServer
from confcom.quote_helper.service import QuoteService
from confcom.quote_helper.settings import HelperSettings
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Backend:
    """What makes the quotes, and an enclave on its platform that can make a report for the self-test."""

    provider: QuoteProvider
    make_report: ReportMaker


class QuoteHelper:
    """One quote helper on one socket.

    Args:
        settings: where to serve.
        open_backend: opens what makes the quotes. It may block: it is called in a thread.
        clock: monotonic seconds.
        limits: deadlines and caps.
    """

    def __init__(
        self,
        settings: HelperSettings,
        *,
        open_backend: Callable[[], Backend],
        clock: Callable[[], float],
        limits: HelperLimits,
    ) -> None:
        registry = CollectorRegistry()
        self._settings = settings
        self._open_backend = open_backend
        self._limits = limits
        self._metrics = HelperMetrics(registry)
        self._readiness = Readiness("the quote provider is being prepared")
        self._probes = ProbeServer(standard_routes(self._readiness, registry))
        self._worker = SerialWorker("quote-provider")
        self._service = QuoteService(
            worker=self._worker, failure_log=LogLimiter(limits.repeated_log_seconds, clock), limits=limits
        )
        self._malformed_log = LogLimiter(limits.repeated_log_seconds, clock)
        self._clock = clock
        self._provider: QuoteProvider | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain; nothing is left behind, however it ends.

        Raises:
            ConfcomError: the socket or the probe address cannot be had, or the backend cannot be opened.
        """
        bound = bind_unix_socket(
            self._settings.socket,
            mode=SOCKET_MODE,
            backlog=BACKLOG,
            directory_mode=DIRECTORY_MODE,
        )
        server = AesmServer(
            bound,
            service=self._service,
            metrics=self._metrics,
            malformed_log=self._malformed_log,
            limits=self._limits,
            clock=self._clock,
        )
        try:
            await server.start()
            if self._settings.probe_address is not None:
                address = await self._probes.start(self._settings.probe_address)
                _logger.info("answering probes on %s", address)
            _logger.info("answering AESM's protocol on %s", self._settings.socket)
            await run_until_stopped(stop, self._prepare(stop))
            self._set_unready("stopping")
            await server.drain()
        finally:
            server.close()
            await self._close_provider()
            await self._probes.close()

    async def _prepare(self, stop: asyncio.Event) -> None:
        backend = await self._worker.submit(self._open_backend)
        self._provider = backend.provider
        waits = self._limits.self_test_retry_seconds
        failures = 0
        while (reason := await self._self_test_failure(backend)) is not None:
            self._metrics.self_tests_failed.inc()
            self._set_unready(reason)
            await asyncio.sleep(waits[min(failures, len(waits) - 1)])
            failures += 1
        self._service.provide(backend.provider)
        self._readiness.set_ready()
        self._metrics.ready.set(1)
        _logger.info("ready: a whole quote was made", extra={"provider": backend.provider.name})
        await stop.wait()

    async def _self_test_failure(self, backend: Backend) -> str | None:
        try:
            await self._worker.submit(lambda: run_self_test(backend.provider, backend.make_report))
        except QuoteProviderError as error:
            _logger.warning("no quote can be made yet", extra={"error": str(error), "code": error.code.name})
            return str(error)
        except Exception as error:
            _logger.exception("the self-test failed in an unexpected way")
            return f"the self-test failed: {type(error).__name__}"
        return None

    async def _close_provider(self) -> None:
        if self._provider is not None:
            closing = self._worker.submit(self._provider.close)
            try:
                async with asyncio.timeout(self._limits.close_seconds):
                    await closing
            except TimeoutError:
                _logger.warning("the quote provider does not end; it is left behind")
            except Exception:
                _logger.exception("the quote provider could not be closed")
        self._worker.close()

    def _set_unready(self, reason: str) -> None:
        self._readiness.set_unready(reason)
        self._metrics.ready.set(0)
