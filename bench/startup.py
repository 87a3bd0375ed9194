"""How long a quote helper takes from exec() until it is ready."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

from bench.machine import on_core, with_byte_code
from testkit.replay.helper import http_get

START_SECONDS = 30.0
POLL_SECONDS = 0.001
BYTE_CODE = "byte-code"
"""Where Python keeps it for these starts, beside the platform: the first one makes it."""


def seconds_to_ready(directory: Path, *, core: int) -> float:
    """From before fork() and exec() until /readyz says 200: a whole quote was made, and the path leads there.

    Args:
        directory: where the socket is made; the platform is there.
        core: where the helper runs; whoever asks should be on another.
    """
    probes = directory / "probes"
    command = [
        *(sys.executable, "-m", "confcom.quote_helper", "--simulated", "--state-dir", str(directory / "state")),
        *("--socket", str(directory / "aesm.socket"), "--probe-address", f"unix:{probes}"),
    ]
    with (directory / "log").open("wb") as log, on_core(core):
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=log, env=with_byte_code(directory / BYTE_CODE)
        )
    try:
        while not _is_ready(probes):
            if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                raise RuntimeError(f"the quote helper did not get ready: {(directory / 'log').read_text()}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - started
    finally:
        process.kill()
        process.wait()
        probes.unlink(missing_ok=True)


def _is_ready(probes: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, ConnectionError):
        status, _ = http_get(probes, "/readyz")
        return bool(status == 200)
    return False
