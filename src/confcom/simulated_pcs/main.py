"""The entry point of the simulated PCS, which builds the daemon from its parts."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge

from confcom.daemon.probe_server import serve_probes, standard_routes
from confcom.daemon.supervision import exit_status, run_daemon
from confcom.quote_provider.state_directory import default_state_dir, exposure, open_platform, utc_now
from confcom.simulated_pcs.answers import API_PATH, answer
from confcom.simulated_pcs.server import Server, tls_context
from confcom.simulated_pcs.settings import PcsSettings, parse_settings

_logger = logging.getLogger(__name__)


async def serve(settings: PcsSettings, state_dir: Path, stop: asyncio.Event, registry: CollectorRegistry) -> None:
    """Serve the collateral of a state directory's platform until `stop` is set."""
    platform = open_platform(state_dir)
    if (warning := exposure(state_dir)) is not None:
        _logger.warning("%s", warning)
    about = "Requests, by the status of their answers"
    requests = Counter("confcom_simulated_pcs_requests", about, ["status"], registry=registry)
    root = Gauge(
        "confcom_simulated_pcs_root_info",
        "1 for the simulated root whose collateral is served: SHA-256 of its certificate",
        ["sha256"],
        registry=registry,
    )
    root.labels(platform.root_fingerprint).set(1)
    certificate = settings.tls_cert or settings.tls_key
    server = Server(
        settings.address.host,
        settings.address.port,
        lambda target: answer(target, platform, utc_now(), settings.staging, pccs=settings.pccs),
        log=_logger.info,
        count=lambda status: requests.labels(status).inc(),
        tls=tls_context(certificate, settings.tls_key) if certificate else None,
    )
    with server.serving(), serve_probes(standard_routes(lambda: None, registry), settings.probe_address):
        _logger.info("serving simulated collateral at %s%s (staging: %s)", server.url, API_PATH, settings.staging)
        await stop.wait()


def main(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str], stderr: TextIO) -> int:
    def body(settings: PcsSettings, registry: CollectorRegistry) -> int:
        state_dir = settings.state_dir or default_state_dir(environ)
        return run_daemon(lambda stop: serve(settings, state_dir, stop, registry))

    return exit_status(lambda: parse_settings(arguments, prog=prog, environ=environ), body, stderr=stderr)
