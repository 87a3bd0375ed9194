"""A stand-in for Intel's aesm_service in the add-on's sidecar: the same arguments, socket and signals.

Usage: python -m e2e.hardware.aesm_service --no-daemon --no-syslog --supported_attestation_types=ECDSA

It runs `testkit.stub_aesmd`, which makes quotes of the simulated platform in its image. The file `fault`
beside its socket selects a failure. A restart ends a hang, but no other fault.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from testkit.stub_aesmd import StubAesmd

PLACE = Path("/opt/stand-in")
"""Folder in the image with this program's modules and the platforms."""
SOCKET = Path("/var/run/aesmd/aesm.socket")
FAULT = SOCKET.with_name("fault")
HANG, OTHER_ROOT = "hang", "other-root"
PLATFORM, OTHER_PLATFORM = "platform", "other-platform"
ARGUMENTS = ("--no-daemon", "--no-syslog", "--supported_attestation_types=ECDSA")
POLL_SECONDS = 0.05


def serve_stub() -> None:
    platforms = {name: SimulatedQuoteProvider(open_platform(PLACE / name)) for name in (PLATFORM, OTHER_PLATFORM)}
    if fault() == HANG:
        FAULT.unlink()
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    stub = StubAesmd(SOCKET, platforms[PLATFORM]).start()
    while not ended:
        now = fault()
        (stub.hang.clear if now == HANG else stub.hang.set)()
        stub.provider = platforms[OTHER_PLATFORM if now == OTHER_ROOT else PLATFORM]
        time.sleep(POLL_SECONDS)
    SOCKET.unlink()


def fault() -> str:
    try:
        return FAULT.read_text().strip()
    except FileNotFoundError:
        return ""


def main(arguments: Sequence[str]) -> int:
    if tuple(arguments) != ARGUMENTS:
        sys.stderr.write(f"aesm_service: the arguments must be {' '.join(ARGUMENTS)}, not {' '.join(arguments)}\n")
        return 1
    serve_stub()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
