"""The quote helper's composition root: settings in, a daemon out."""

from __future__ import annotations

import asyncio
import resource
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TextIO

from confcom.daemon.logs import configure_logging
from confcom.daemon.supervision import exit_status, run_daemon
from confcom.quote_helper.helper import QuoteHelper
from confcom.quote_helper.limits import RESERVED_FILE_DESCRIPTORS, HelperLimits
from confcom.quote_helper.provider_state import Backend
from confcom.quote_helper.settings import parse_settings
from confcom.quote_helper.socket_decisions import TOKEN_BYTES, Instance


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    """Run the quote helper in the foreground until SIGTERM, SIGINT or SIGHUP.

    Args:
        arguments: the command line without the program's name.
        prog: the program's name, for help and errors.
        environ: the process environment.
        stderr: where logs and errors go.

    Returns:
        The exit code (confcom.errors.ExitCode).
    """

    def body() -> int:
        settings = parse_settings(arguments, prog=prog, environ=environ)
        configure_logging(level=settings.log_level, log_format=settings.log_format, stream=stderr)

        def open_backend() -> Backend:
            from confcom.quote_helper.simulated_backend import open_simulated  # noqa: PLC0415 # after the socket is bound

            return open_simulated(
                settings.state_dir,
                qe_mr_enclave=settings.simulated_qe_mr_enclave,
                qe_isv_svn=settings.simulated_qe_isv_svn,
            )

        limits = HelperLimits(max_connections=_affordable_connections(HelperLimits().max_connections))
        instance = Instance.started(time.clock_gettime_ns(time.CLOCK_BOOTTIME), secrets.token_bytes(TOKEN_BYTES))

        def run(stop: asyncio.Event) -> Coroutine[Any, Any, None]:
            return QuoteHelper(
                settings, open_backend=open_backend, instance=instance, clock=time.perf_counter, limits=limits
            ).run(stop)

        return run_daemon(run, use_uvloop=True)

    return exit_status(body, stderr=stderr)


def _affordable_connections(most: int) -> int:
    """Raise the soft limit of open files as far as needed and allowed, and keep within what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + RESERVED_FILE_DESCRIPTORS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - RESERVED_FILE_DESCRIPTORS)
