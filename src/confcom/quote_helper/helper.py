"""The quote helper's life cycle: serve the path or wait for it, prepare the provider, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from confcom.daemon.logs import LogLimiter
from confcom.daemon.probe_server import serve_probes
from confcom.daemon.probes import standard_routes
from confcom.daemon.readiness_log import NotReady, ReadinessLog
from confcom.daemon.supervision import run_until_stopped
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.provider_state import PREPARING, Backend, ProviderStatus, ProviderSupervisor
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.settings import HelperSettings
from confcom.quote_helper.takeover.socket_access import SocketAccess
from confcom.quote_helper.takeover.socket_keeper import SocketKeeper
from confcom.quote_helper.takeover.takeover_policy import Instance
from confcom.quote_helper.telemetry.metrics import HelperMetrics, watch_loop
from confcom.quote_helper.telemetry.observations import Observations
from confcom.quote_helper.telemetry.quote_log import QuoteLog
from confcom.quote_helper.transport.connection import Connection
from confcom.quote_helper.transport.peers import ByPod, by_uid
from confcom.quote_helper.transport.server import AesmServer

STOPPING: Final = NotReady("stopping", code="stopping")


class QuoteHelper:
    """One quote helper on one socket. `open_backend` may block: it is called in a worker thread."""

    def __init__(
        self,
        settings: HelperSettings,
        *,
        open_backend: Callable[[], Backend],
        instance: Instance,
        clock: Callable[[], float],
        limits: HelperLimits,
        registry: CollectorRegistry,
    ) -> None:
        self._settings = settings
        self._open_backend = open_backend
        self._instance = instance
        self._limits = limits
        self._metrics = HelperMetrics(registry, clock)
        self._metrics.readiness_changed(PREPARING)
        self._readiness = ReadinessLog(PREPARING.reason, clock)
        self._routes = standard_routes(lambda: self._readiness.reason, registry)
        self._stopping = False
        self._clock = clock
        self._observations = Observations(self._metrics, QuoteLog(settings.log_quotes_per_peer, clock))

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then drain; all resources are released in every case.

        Raises:
            ConfcomError: the socket or the probe address cannot be bound, or the backend cannot be opened.
        """
        limits, settings = self._limits, self._settings
        stale = StaleTargetPolicy(settings.stale_report_window_seconds, self._clock)
        server = AesmServer(
            make_service=partial(QuoteService[Connection], stale=stale, limits=limits, clock=self._clock),
            observer=self._observations,
            identify=ByPod() if settings.identify_pods else by_uid,
            limits=limits,
            clock=self._clock,
        )
        service = server.service
        self._metrics.waiting.set_function(lambda: service.waiting)
        self._metrics.connections.set_function(lambda: server.connections)
        self._metrics.unread.set_function(lambda: server.unread)
        self._metrics.client_memory.set_function(lambda: server.client_memory)
        sockets = SocketKeeper(
            path=settings.socket,
            me=self._instance,
            server=server,
            stale=stale,
            access=SocketAccess(
                path=settings.socket,
                open_to_all=settings.open_to_all_users,
                restored_log=LogLimiter(limits.repeated_log_seconds, self._clock),
            ),
            limits=limits,
            on_change=lambda: self._show_readiness(provider.status, sockets),
        )

        def provider_changed(status: ProviderStatus) -> None:
            sockets.set_can_quote(can_quote=status.ready)
            self._show_readiness(status, sockets)

        provider = ProviderSupervisor(
            open_backend=self._open_backend,
            opened=lambda backend: self._metrics.quotes_by(backend.root),
            service=service,
            stale=stale,
            changed=provider_changed,
            lost=self._metrics.losses.inc,
            limits=limits,
        )
        try:
            with serve_probes(self._routes, settings.probe_address):
                await sockets.start()
                handed_over = asyncio.Event()
                await run_until_stopped(
                    handed_over,
                    provider.run(),
                    self._serve_path(sockets, stop, handed_over),
                    self._observations.run(),
                    self._readiness.repeat(),
                    watch_loop(self._clock, self._metrics.loop_stall.observe),
                )
                provider.stop()
                sockets.leave()
                service.stop()
                await server.stop_accepting(limits.accept_drain_seconds)
                await server.drain()
        finally:
            server.close()
            service.close()
            sockets.close()
            self._observations.close()

    async def _serve_path(self, sockets: SocketKeeper, stop: asyncio.Event, handed_over: asyncio.Event) -> None:
        """Keep the path until `stop` is set, and then until another helper has taken it, or its time is over."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(sockets.run())
            await stop.wait()
            keeping.cancel()
        self._stopping = True
        self._readiness.reason = STOPPING.reason
        self._metrics.readiness_changed(STOPPING)
        await sockets.hand_over(self._settings.handover_seconds)
        handed_over.set()

    def _show_readiness(self, status: ProviderStatus, sockets: SocketKeeper) -> None:
        if self._stopping:
            return
        problem = status.problem or sockets.problem
        self._metrics.readiness_changed(problem)
        if problem is None:
            self._readiness.tell(None)
        else:
            self._readiness.tell(problem.reason, code=problem.code, expected=problem.expected)
