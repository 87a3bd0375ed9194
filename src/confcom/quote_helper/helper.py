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
from confcom.quote_helper import limits
from confcom.quote_helper.metrics import HelperMetrics
from confcom.quote_helper.self_test import ReportMaker, run_self_test
from confcom.quote_helper.server import AesmServer, ServerLimits
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
        server_limits: deadlines and caps.
        retry_seconds: waits between self-tests that failed; the last one repeats.
    """

    def __init__(
        self,
        settings: HelperSettings,
        *,
        open_backend: Callable[[], Backend],
        clock: Callable[[], float],
        server_limits: ServerLimits,
        retry_seconds: tuple[float, ...] = limits.SELF_TEST_RETRY_SECONDS,
    ) -> None:
        registry = CollectorRegistry()
        self._settings = settings
        self._open_backend = open_backend
        self._retry_seconds = retry_seconds
        self._metrics = HelperMetrics(registry)
        self._readiness = Readiness("the quote provider is being prepared")
        self._probes = ProbeServer(standard_routes(self._readiness, registry))
        self._worker = SerialWorker("quote-provider")
        self._service = QuoteService(worker=self._worker, failure_log=LogLimiter(limits.REPEATED_LOG_SECONDS, clock))
        self._server = AesmServer(
            service=self._service,
            metrics=self._metrics,
            malformed_log=LogLimiter(limits.REPEATED_LOG_SECONDS, clock),
            server_limits=server_limits,
            clock=clock,
        )
        self._provider: QuoteProvider | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain; nothing is left behind, however it ends.

        Raises:
            ConfcomError: the socket or the probe address cannot be had, or the backend cannot be opened.
        """
        bound = bind_unix_socket(
            self._settings.socket,
            mode=limits.SOCKET_MODE,
            backlog=limits.BACKLOG,
            directory_mode=limits.DIRECTORY_MODE,
        )
        try:
            await self._server.start(bound)
            _logger.info("answering AESM's protocol on %s", self._settings.socket)
            if self._settings.probe_address is not None:
                address = await self._probes.start(self._settings.probe_address)
                _logger.info("answering probes on %s", address)
            await run_until_stopped(stop, self._prepare(stop))
            self._set_unready("stopping")
            await self._server.drain()
        finally:
            self._server.close()
            await self._probes.close()
            self._worker.close()
            if self._provider is not None:
                self._provider.close()

    async def _prepare(self, stop: asyncio.Event) -> None:
        backend = await self._worker.submit(self._open_backend)
        self._provider = backend.provider
        failures = 0
        while True:
            try:
                await self._worker.submit(lambda: run_self_test(backend.provider, backend.make_report))
            except QuoteProviderError as error:
                wait = self._retry_seconds[min(failures, len(self._retry_seconds) - 1)]
                failures += 1
                self._metrics.self_tests_failed.inc()
                self._set_unready(str(error))
                _logger.error("no quote can be made yet", extra={"error": str(error), "retry_seconds": wait})  # noqa: TRY400 # the error explains itself; a traceback of the provider would not add to it
                await asyncio.sleep(wait)
            else:
                break
        self._service.provide(backend.provider)
        self._readiness.set_ready()
        self._metrics.ready.set(1)
        _logger.info("ready: a whole quote was made", extra={"provider": backend.provider.name})
        await stop.wait()

    def _set_unready(self, reason: str) -> None:
        self._readiness.set_unready(reason)
        self._metrics.ready.set(0)
