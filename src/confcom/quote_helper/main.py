"""The quote helper's composition root: builds the daemon from its settings."""

from __future__ import annotations

import asyncio
import logging
import resource
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TextIO

from prometheus_client import CollectorRegistry

from confcom.daemon.logs import LogStream, configure_logging
from confcom.daemon.supervision import STOP_DEADLINE_SECONDS, exit_status, run_daemon
from confcom.quote_helper.helper import QuoteHelper
from confcom.quote_helper.limits_and_deadlines import (
    CLIENT_MEMORY_PART,
    UNREAD_MEMORY_PART,
    HelperLimits,
)
from confcom.quote_helper.quoting.provider_state import Backend
from confcom.quote_helper.settings import ProviderKind, parse_settings
from confcom.quote_helper.takeover.takeover_policy import TOKEN_BYTES, Instance

_logger = logging.getLogger(__name__)

MIB: Final = 1024 * 1024


RESERVED_FILE_DESCRIPTORS: Final = 64
"""Reserved for files, probes and the loop itself, so that connections cannot use up RLIMIT_NOFILE."""


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    """Run the quote helper in the foreground until SIGTERM, SIGINT or SIGHUP; return the ExitCode."""

    def body(log: LogStream) -> int:
        settings = parse_settings(arguments, prog=prog, environ=environ)
        configure_logging(level=settings.log_level, log_format=settings.log_format, stream=log)
        registry = CollectorRegistry()
        registry.register(log.dropped)

        def open_backend() -> Backend:
            if settings.provider is ProviderKind.AESMD:
                from confcom.quote_helper.quoting.aesmd_backend import open_aesmd  # noqa: PLC0415 # as below

                return open_aesmd(settings.aesmd_socket, expected_root=settings.expected_root)
            from confcom.quote_helper.quoting.simulated_backend import open_simulated  # noqa: PLC0415 # after the socket is bound

            return open_simulated(
                settings.state_dir,
                qe_mr_enclave=settings.simulated_qe_mrenclave,
                qe_isv_svn=settings.simulated_qe_isvsvn,
            )

        limits = _fit_limits(HelperLimits(), memory_limit=settings.memory_limit_mib * MIB)
        instance = Instance.started(time.clock_gettime_ns(time.CLOCK_BOOTTIME), secrets.token_bytes(TOKEN_BYTES))

        def run(stop: asyncio.Event) -> Coroutine[Any, Any, None]:
            return QuoteHelper(
                settings,
                open_backend=open_backend,
                instance=instance,
                clock=time.perf_counter,
                limits=limits,
                registry=registry,
            ).run(stop)

        return run_daemon(run, stop_deadline=STOP_DEADLINE_SECONDS + settings.handover_seconds, use_uvloop=True)

    return exit_status(body, stderr=stderr)


def _fit_limits(limits: HelperLimits, *, memory_limit: int) -> HelperLimits:
    """Return the limits adapted to the memory, in bytes, and the descriptors that this process may use."""
    limits = replace(
        limits,
        client_memory=memory_limit // CLIENT_MEMORY_PART,
        unread_memory=memory_limit // UNREAD_MEMORY_PART,
    )
    available = _raise_descriptor_limit(limits.descriptors)
    fitted = limits.with_descriptors(available)
    if fitted is not limits:
        _logger.warning(
            "the hard limit of open files is low: only %d connections fit",
            available,
            extra={
                "event": "few-descriptors",
                "needed": limits.descriptors + RESERVED_FILE_DESCRIPTORS,
                "why": "clients that hold connections can use up all of them, and others then wait",
                "remedy": "raise the hard limit (RLIMIT_NOFILE, `ulimit -Hn`) of the container runtime",
            },
        )
    return fitted


def _raise_descriptor_limit(wanted: int) -> int:
    """Raise the soft limit of open files as far as needed and allowed; return how many of `wanted` it then allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED_FILE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - RESERVED_FILE_DESCRIPTORS)
