"""The quote helper's life: bind at once, prepare, serve, drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from prometheus_client import CollectorRegistry

from confcom.daemon.logs import LogLimiter
from confcom.daemon.probes import ProbeServer, Readiness, standard_routes
from confcom.daemon.supervision import run_until_stopped
from confcom.daemon.unix_socket import bind_unix_socket
from confcom.daemon.worker import WorkerPool
from confcom.quote_helper.limits import BACKLOG, DIRECTORY_MODE, SOCKET_MODE, HelperLimits
from confcom.quote_helper.metrics import HelperMetrics
from confcom.quote_helper.peers import by_uid
from confcom.quote_helper.provider_state import Backend, ProviderKeeper, ProviderStatus
from confcom.quote_helper.server import AesmServer
from confcom.quote_helper.service import QuoteService
from confcom.quote_helper.settings import HelperSettings
from confcom.quote_helper.stale_target import StaleTargetPolicy

_logger = logging.getLogger(__name__)


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
        self._metrics = HelperMetrics(registry, LogLimiter(limits.repeated_log_seconds, clock))
        self._readiness = Readiness("the quote provider is being prepared")
        self._probes = ProbeServer(standard_routes(self._readiness, registry))
        self._clock = clock

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
        workers = WorkerPool("quote-provider")
        service = QuoteService(
            workers=workers,
            stale=StaleTargetPolicy(0, self._clock),
            failure_log=LogLimiter(self._limits.repeated_log_seconds, self._clock),
            limits=self._limits,
            clock=self._clock,
        )
        keeper = ProviderKeeper(
            open_backend=self._open_backend,
            service=service,
            workers=workers,
            changed=self._provider_changed,
            self_test_failed=self._metrics.self_tests_failed.inc,
            limits=self._limits,
        )
        server = AesmServer(
            service=service,
            observer=self._metrics,
            identify=by_uid,
            limits=self._limits,
            clock=self._clock,
        )
        try:
            server.add_listener(bound.socket)
            if self._settings.probe_address is not None:
                address = await self._probes.start(self._settings.probe_address)
                _logger.info("answering probes on %s", address)
            _logger.info("answering AESM's protocol on %s", self._settings.socket)
            await run_until_stopped(stop, keeper.run())
            self._set_unready("stopping")
            bound.unlink()
            service.stop()
            await server.stop_accepting(self._limits.accept_drain_seconds)
            await server.drain()
        finally:
            server.close()
            service.close()
            bound.close()
            await keeper.close()
            await self._probes.close()

    def _provider_changed(self, status: ProviderStatus) -> None:
        self._metrics.provider_changed(status)
        if status.ready:
            self._readiness.set_ready()
            self._metrics.ready.set(1)
        else:
            self._set_unready(status.reason)

    def _set_unready(self, reason: str) -> None:
        self._readiness.set_unready(reason)
        self._metrics.ready.set(0)
