"""The sample workload: load an enclave, create its report for a challenge, get a quote, print it."""

from __future__ import annotations

import base64
import json
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from confcom.client.address import aesm_socket_path
from confcom.client.mode import PROCESS_MODE, ProcessMode, choose_mode
from confcom.client.request import request_quote
from confcom.errors import ConfcomError, ExitCode, OutputError, SettingsError, UnavailableError, printable
from confcom.sample_workload.settings import EPC_VARIABLE, PLATFORM_VARIABLE, WorkloadSettings
from confcom.simulation.enclave import SimulatedEnclave

QUOTE_PREFIX: Final = "quote: "
"""The prefix of the log line with the quote; base64 follows. A quote leaves the pod through its log."""

TERMINATED: Final = 128 + signal.SIGTERM
"""The exit code that a shell reports for a program that SIGTERM ended."""


class NoEnclaveDeviceError(UnavailableError):
    """The container has no usable SGX device node, which is needed to load enclaves."""

    error_code = "no-enclave-device"


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a container's program; errors go to stderr, and the exit code is that of the error's kind."""
    # The first process of a PID namespace ignores SIGTERM unless it installs a handler.
    signal.signal(signal.SIGTERM, _exit_now)
    try:
        settings = WorkloadSettings.read(argv, os.environ)
        if settings.print_identity:
            _say(json.dumps(identity(settings)))
            return ExitCode.OK
        run(settings, environ=os.environ, say=_say, hold=_hold)
    except ConfcomError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


def run(
    settings: WorkloadSettings,
    *,
    environ: Mapping[str, str],
    say: Callable[[str], None],
    hold: Callable[[float], None],
    clock: Callable[[], float] = time.perf_counter,
    process_mode: ProcessMode = PROCESS_MODE,
) -> None:
    """Get one quote, and print it; `hold` waits for so many seconds, or until SIGTERM, while the device is open."""
    _require_simulated(settings.platform)
    say(f"SGX platform: {settings.platform or f'not told ({PLATFORM_VARIABLE} is not set)'}")
    say(f"enclave memory: {f'{settings.epc_mib} MiB' if settings.epc_mib else f'not told ({EPC_VARIABLE} is not set)'}")
    with open_enclave_device(settings.devices) as device:
        say(f"enclave device: {device}, open")
        enclave = SimulatedEnclave.from_name(settings.enclave_name, debug=settings.debug)
        say(f"enclave: {settings.enclave_name!r}, simulated, MRENCLAVE {enclave.mr_enclave.hex()}")
        say(f"challenge: {settings.challenge_size} bytes")
        say(str(choose_mode(environ)))
        say(f"AESM socket: {aesm_socket_path(environ)}")
        started = clock()
        quoted = request_quote(
            lambda target_info: enclave.create_report(target_info, settings.report_data),
            environ=environ,
            process_mode=process_mode,
        )
        took_ms = (clock() - started) * 1000
        say(QUOTE_PREFIX + base64.b64encode(quoted.quote).decode())
        say(f"done: a quote of {len(quoted.quote)} bytes in {took_ms:.1f} ms")
        if settings.output is not None:
            _write(settings.output, quoted.quote)
            say(f"written to {settings.output}")
        if settings.hold_seconds:
            hold(settings.hold_seconds)


def identity(settings: WorkloadSettings) -> dict[str, str]:
    """Return the MRENCLAVE and MRSIGNER that a relying party should expect; no enclave runs for this."""
    enclave = SimulatedEnclave.from_name(settings.enclave_name, debug=settings.debug)
    return {"mr_enclave": enclave.mr_enclave.hex(), "mr_signer": enclave.mr_signer.hex()}


def _require_simulated(platform: str) -> None:
    if platform not in {"", "simulated"}:
        raise SettingsError(
            f"this workload cannot run on the SGX platform {platform!r}",
            error_code="platform-not-simulated",
            why="its enclave is simulated, and only a simulated platform quotes the reports of one",
            remedy="run a real enclave program here; this one is for nodes without SGX",
        )


def _write(path: Path, quote: bytes) -> None:
    try:
        path.write_bytes(quote)
    except OSError as error:
        raise OutputError(
            f"the quote could not be written to {path}",
            error_code="quote-not-writable",
            why=error.strerror or str(error),
            remedy="name a file in a directory that this container may write to",
        ) from error


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")
    # stdout may be a pipe, which is block-buffered: without the flush the log would show lines late.
    sys.stdout.flush()


def _hold(seconds: float) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    _say(f"holding the enclave for {seconds:g} s, or until SIGTERM")
    stop.wait(min(seconds, threading.TIMEOUT_MAX))


def _exit_now(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


@contextmanager
def open_enclave_device(candidates: Sequence[Path]) -> Iterator[Path]:
    """Open the first existing candidate for reading and writing, as an enclave loader does, until the block ends."""
    path, descriptor = _open_first(candidates)
    try:
        if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
            raise NoEnclaveDeviceError(
                f"{path} is not a device",
                why="something else was created or mounted there",
                remedy="let the device plugin provide it; do not mount it as a volume",
            )
        yield path
    finally:
        os.close(descriptor)


def _open_first(candidates: Sequence[Path]) -> tuple[Path, int]:
    for path in candidates:
        try:
            return path, os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise NoEnclaveDeviceError(
                f"the SGX device {path} cannot be opened",
                why=error.strerror or str(error),
                remedy="check its mode (0666 on most systems) and the container's device permissions",
            ) from error
    raise NoEnclaveDeviceError(
        f"no SGX device exists here ({', '.join(map(str, candidates))})",
        why="a container gets one only if it requests enclave memory and its node runs a device plugin",
        remedy="put kubernetes.azure.com/sgx_epc_mem_in_MiB into resources.limits, and check that the SGX device "
        "plugin runs on the node",
    )
