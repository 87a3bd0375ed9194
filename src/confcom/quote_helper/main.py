"""Composes and runs the quote helper: serve the socket's path or wait for it, prepare the provider, drain."""

import asyncio
import logging
import resource
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TextIO

from cryptography import x509
from prometheus_client import CollectorRegistry

from confcom import passed_descriptors
from confcom.daemon.common_metrics import ReadinessMetrics
from confcom.daemon.logs import LogLimiter
from confcom.daemon.probe_server import Route, serve_probes, standard_routes
from confcom.daemon.readiness_log import NotReady, ReadinessLog
from confcom.daemon.supervision import STOP_DEADLINE_SECONDS, exit_status, run_daemon, run_until_stopped
from confcom.quote_helper.limits_and_deadlines import MIB, UNREAD_MEMORY_PART, HelperLimits
from confcom.quote_helper.metrics import HelperMetrics, watch_loop
from confcom.quote_helper.platform_record import PlatformRecord
from confcom.quote_helper.quote_log import QuoteLog
from confcom.quote_helper.quoting.provider_state import PREPARING, ProviderSupervisor
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.settings import HelperSettings, ProviderKind, parse_settings
from confcom.quote_helper.takeover.socket_access import SocketAccess
from confcom.quote_helper.takeover.socket_keeper import SocketKeeper
from confcom.quote_helper.takeover.takeover_policy import TOKEN_BITS, Instance
from confcom.quote_helper.transport.handler import ConnectionHandler
from confcom.quote_helper.transport.peers import ByPod, by_uid
from confcom.quote_helper.transport.server import AesmServer
from confcom.quote_helper.transport.slow_peers import SlowPeers
from confcom.quote_provider.base import Backend, Certificate
from confcom.sgx.pck.platform_page import SgxKind

_logger = logging.getLogger(__name__)

RESERVED_FILE_DESCRIPTORS: Final = 64
"""Descriptors kept for files, probes and the event loop, so that connections cannot use up RLIMIT_NOFILE."""
REFUSED: Final = "refused by the kernel (SO_PASSRIGHTS)"
WATCHED: Final = "received, since this kernel (before Linux 6.16) cannot refuse them; a watchdog ends waits for them"
REMOVAL_SECONDS: Final = 600.0
"""Time for which the mark of a removal is valid: longer than `confcom disable` needs from the mark to a Pod's
SIGTERM, with clocks that differ; it is limited, because the mark of a removal that failed stays on the Pods."""
STOPPING: Final = NotReady("stopping", code="stopping")


class QuoteHelper:
    """One quote helper on one socket. `open_backend` may block, since it is called in a worker thread."""

    def __init__(
        self,
        settings: HelperSettings,
        *,
        open_backend: Callable[[HelperMetrics], Backend],
        instance: Instance,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        limits: HelperLimits,
        registry: CollectorRegistry,
        more_routes: Mapping[str, Route] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._open_backend = open_backend
        self._instance = instance
        self._limits = limits
        self._metrics = HelperMetrics(registry)
        self._readiness = ReadinessLog(PREPARING, clock)
        registry.register(ReadinessMetrics("quote_helper", lambda: self._readiness.problem))
        self._refuses_descriptors = passed_descriptors.are_refusable()
        protection = REFUSED if self._refuses_descriptors else WATCHED
        _logger.info("descriptors in messages of clients: %s", protection)
        self._routes = standard_routes(
            lambda: self._readiness.problem, registry, note=f"descriptors of clients: {protection}"
        ) | dict(more_routes)
        self._stopping = False
        self._clock = clock
        self._wall_clock = wall_clock
        self._quote_log = QuoteLog(settings.log_quotes_per_peer, self._metrics, clock)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`, then answer waiting requests; raise ConfcomError if serving cannot begin."""
        limits, settings = self._limits, self._settings
        stale = StaleTargetPolicy(settings.stale_report_window_seconds, self._clock)
        handler = ConnectionHandler(
            stale=stale,
            observer=self._quote_log,
            limits=limits,
            clock=self._clock,
            slow_peers=None if self._refuses_descriptors else SlowPeers(self._clock),
        )
        server = AesmServer(handler, ByPod() if settings.identify_pods else by_uid)
        service, connections = handler.service, handler.connections
        self._metrics.waiting.set_function(lambda: service.waiting)
        self._metrics.connections.set_function(lambda: len(connections))
        self._metrics.unread_memory.set_function(lambda: connections.unread_memory)
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
            on_change=lambda: show_readiness(),  # noqa: PLW0108 # the function is defined below
        )

        def show_readiness() -> None:
            if not self._stopping:
                self._readiness.tell(provider.problem or sockets.problem or server.memory_problem)

        def provider_changed() -> None:
            sockets.set_can_quote(can_quote=provider.ready)
            show_readiness()

        provider = ProviderSupervisor(
            open_backend=partial(self._open_backend, self._metrics),
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
                    self._quote_log.run(),
                    self._readiness.repeat(),
                    server.watch_memory(show_readiness),
                    watch_loop(self._clock, self._metrics.loop_stall.observe),
                )
                sockets.leave()
                service.stop()
                await server.stop_accepting(limits.accept_drain_seconds)
                await server.drain()
        finally:
            server.close()
            service.close()
            sockets.close()
            self._quote_log.log_counts(after_seconds=0)

    async def _serve_path(self, sockets: SocketKeeper, stop: asyncio.Event, handed_over: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(sockets.run())
            await stop.wait()
            keeping.cancel()
        self._stopping = True
        self._readiness.problem = STOPPING
        alone = is_removal(self._settings.removal_file, self._wall_clock())
        await sockets.hand_over(0 if alone else self._settings.handover_seconds)
        handed_over.set()


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    """Run the quote helper in the foreground until SIGTERM, SIGINT or SIGHUP; return the ExitCode."""

    def body(settings: HelperSettings, registry: CollectorRegistry) -> int:
        hardware = settings.provider is ProviderKind.AESMD
        platform = PlatformRecord(SgxKind.HARDWARE if hardware else SgxKind.SIMULATED, time.time)

        def set_certificate(metrics: HelperMetrics, role: Certificate, certificate: x509.Certificate) -> None:
            metrics.set_certificate_end(role, certificate.not_valid_after_utc)
            if role is Certificate.PCK:
                platform.set_pck(certificate)

        def open_backend(metrics: HelperMetrics) -> Backend:
            if hardware:
                from confcom.relay.self_test import open_aesmd  # noqa: PLC0415 # after the socket is bound

                return open_aesmd(
                    settings.aesmd_socket,
                    expected_root=settings.expected_root,
                    on_restart=lambda cause: metrics.aesmd_restarts.labels(cause).inc(),
                    on_pck=lambda pck: set_certificate(metrics, Certificate.PCK, pck),
                )
            from confcom.quote_helper.quoting.simulated_backend import open_simulated  # noqa: PLC0415 # after the socket is bound
            from confcom.quote_provider.state_directory import default_state_dir  # noqa: PLC0415 # after bind

            backend = open_simulated(
                settings.state_dir or default_state_dir(environ),
                node=settings.node_name,
                qe_mr_enclave=settings.simulated_qe_mrenclave,
                qe_isv_svn=settings.simulated_qe_isvsvn,
            )
            metrics.simulated_root.labels(backend.root).set(1)
            for role, certificate in backend.certificates.items():
                set_certificate(metrics, role, certificate)
            return backend

        helper = QuoteHelper(
            settings,
            open_backend=open_backend,
            instance=Instance(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000, secrets.randbits(TOKEN_BITS)),
            clock=time.perf_counter,
            wall_clock=time.time,
            limits=_fit_limits(HelperLimits(), memory_limit=settings.memory_limit_mib * MIB),
            registry=registry,
            more_routes={"/platform": platform.response},
        )
        return run_daemon(helper.run, stop_deadline=STOP_DEADLINE_SECONDS + settings.handover_seconds, use_uvloop=True)

    return exit_status(lambda: parse_settings(arguments, prog=prog, environ=environ), body, stderr=stderr)


def is_removal(file: Path | None, now: float) -> bool:
    """Return whether a file says that all helpers are being removed; `now` is in seconds since 1970."""
    try:
        return file is not None and abs(now - float(file.read_text())) < REMOVAL_SECONDS
    except (OSError, ValueError):  # there is no mark
        return False


def _fit_limits(limits: HelperLimits, *, memory_limit: int) -> HelperLimits:
    limits = replace(limits, unread_memory=memory_limit // UNREAD_MEMORY_PART)
    needed = limits.descriptors + RESERVED_FILE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed == needed:
        return limits
    available = max(1, allowed - RESERVED_FILE_DESCRIPTORS)
    _logger.warning(
        "the hard limit of open files is low: only %d connections fit",
        available,
        extra={
            "event": "few-descriptors",
            "needed": needed,
            "why": "fewer clients can hold connections at one time, and others wait",
            "remedy": "raise the hard limit (RLIMIT_NOFILE, `ulimit -Hn`) of the container runtime",
        },
    )
    return limits.with_descriptors(available)
