"""The program in the demo's container, which gets and prints the quote of a simulated enclave's report on a challenge.

The program uses the AESM socket and the SGX device node. An import contract bars it from the provider's keys.
"""

import argparse
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
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self

from confcom.client.address import aesm_socket_path
from confcom.client.blocking import AesmClient
from confcom.client.mode import PROCESS_MODE, ProcessMode, choose_mode
from confcom.client.request import request_quote
from confcom.errors import ConfcomError, ExitCode, SettingsError, UnavailableError, as_data, printable
from confcom.sgx.report import REPORT_DATA_SIZE, report_data
from confcom.simulation.enclave import SimulatedEnclave

QUOTE_PREFIX: Final = "quote: "
"""The prefix of the log line with the quote in base64, which leaves the pod through its log."""

RESULT_PREFIX: Final = "result: "
"""The prefix of the log line of `--print-result`: a JSON object with `quote_ms`, and with `error` after a failure."""

TERMINATED: Final = 128 + signal.SIGTERM
"""The exit code that a shell reports for a program that was ended by SIGTERM."""


CHALLENGE_VARIABLE: Final = "CONFCOM_CHALLENGE"
"""The variable with the relying party's challenge in hex, which becomes the zero-padded report data."""

DEVICE_VARIABLE: Final = "CONFCOM_SGX_ENCLAVE_DEVICE"
"""The variable with the device node's path, which a runner sets if it cannot provide the usual path."""

PLATFORM_VARIABLE: Final = "CONFCOM_SGX_PLATFORM"
"""The variable that the device plugin sets to `hardware` or `simulated`."""

EPC_VARIABLE: Final = "CONFCOM_SGX_EPC_MIB"
"""The variable that the device plugin sets to the container's enclave memory in MiB."""

DEFAULT_ENCLAVE_NAME: Final = "confcom sample workload"

ENCLAVE_DEVICES: Final = (Path("/dev/sgx_enclave"), Path("/dev/sgx/enclave"))
"""Paths of the device node for loading enclaves, in Linux since 5.11 and with Intel's older driver."""


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    report_data: bytes
    """64 bytes: the challenge, followed by zeros."""
    challenge_size: int
    devices: tuple[Path, ...]
    platform: str
    epc_mib: str
    enclave_name: str
    hold_seconds: int
    print_identity: bool
    makes_quote: bool
    print_result: bool

    @classmethod
    def read(cls, argv: Sequence[str] | None, environ: Mapping[str, str]) -> Self:
        """Read arguments and environment. argparse ends the program if arguments are wrong."""
        options = _parser().parse_args(argv)
        challenge, report_data = _challenge(environ.get(CHALLENGE_VARIABLE, ""))
        device = environ.get(DEVICE_VARIABLE)
        return cls(
            report_data=report_data,
            challenge_size=len(challenge),
            devices=(Path(device),) if device else ENCLAVE_DEVICES,
            platform=environ.get(PLATFORM_VARIABLE, ""),
            epc_mib=_mebibytes(environ.get(EPC_VARIABLE, "")),
            enclave_name=options.enclave,
            hold_seconds=options.hold,
            print_identity=options.print_identity,
            makes_quote=not options.no_quote,
            print_result=options.print_result,
        )

    def enclave(self) -> SimulatedEnclave:
        return SimulatedEnclave.from_name(self.enclave_name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m confcom.sample_workload",
        description="Load a simulated enclave, have it report on a challenge, and get a quote of it out of process.",
        epilog=f"Environment: SGX_AESM_ADDR must be set. {CHALLENGE_VARIABLE}: hex, up to {REPORT_DATA_SIZE} bytes. "
        f"CONFCOM_AESM_SOCKET and {DEVICE_VARIABLE}: other paths than /var/run/aesmd/aesm.socket and "
        f"{ENCLAVE_DEVICES[0]}.",
    )
    parser.add_argument("--enclave", type=_name, default=DEFAULT_ENCLAVE_NAME, metavar="NAME", help="decides MRENCLAVE")
    parser.add_argument(
        "--hold",
        type=_seconds,
        default=0,
        metavar="SECONDS",
        help="keep running (and hold the enclave memory) after the quote, until SIGTERM or this long",
    )
    parser.add_argument(
        "--print-identity",
        action="store_true",
        help="only print the enclave's MRENCLAVE and MRSIGNER as JSON: what its builder publishes to relying parties",
    )
    parser.add_argument(
        "--no-quote",
        action="store_true",
        help="load no enclave: only open the device, and ask the AESM service for its quoting enclave and quote size",
    )
    parser.add_argument(
        "--print-result", action="store_true", help=f"print a line `{RESULT_PREFIX}JSON` for programs, also on failure"
    )
    return parser


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return int(text)


def _name(text: str) -> str:
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not printable text")
    return text


def _mebibytes(text: str) -> str:
    if text and not (text.isascii() and text.isdecimal()):
        raise SettingsError(
            f"{EPC_VARIABLE} is {text!r}",
            error_code="variable-refused",
            why="it is a whole number of MiB",
            remedy="do not set it: the device plugin sets it in every container that has enclave memory",
        )
    return text


def _challenge(text: str) -> tuple[bytes, bytes]:
    """Return the challenge and its report data. The report data of an empty challenge are zeros."""
    try:
        challenge = bytes.fromhex(text)
        return challenge, report_data(challenge) if challenge else bytes(REPORT_DATA_SIZE)
    except ValueError as error:
        raise SettingsError(
            f"{CHALLENGE_VARIABLE} cannot be used",
            error_code="variable-refused",
            why=str(error),
            remedy=f"give 1 to {REPORT_DATA_SIZE} bytes, each as two of the digits 0-9 and a-f",
        ) from error


class NoEnclaveDeviceError(UnavailableError):
    """The container has no usable SGX device node, without which no enclave can be loaded."""

    error_code = "no-enclave-device"


def main(argv: Sequence[str] | None = None) -> int:
    """Run as a container's program. Errors go to stderr, and the kind of error determines the exit code."""
    # Without a handler, the first process of a PID namespace would ignore SIGTERM.
    signal.signal(signal.SIGTERM, _exit_now)
    settings = None
    try:
        settings = WorkloadSettings.read(argv, os.environ)
        if settings.print_identity:
            enclave = settings.enclave()  # no enclave runs; the values to expect are only printed
            _say(json.dumps({"mr_enclave": enclave.mr_enclave.hex(), "mr_signer": enclave.mr_signer.hex()}))
            return ExitCode.OK
        run(settings, environ=os.environ, say=_say, hold=_hold)
    except ConfcomError as error:
        if settings is not None and settings.print_result:
            _say(RESULT_PREFIX + json.dumps({"quote_ms": None, "error": as_data(error)}))
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
    hold: Callable[[int], None],
    clock: Callable[[], float] = time.perf_counter,
    process_mode: ProcessMode = PROCESS_MODE,
) -> None:
    """Get and print one quote. Then `hold` keeps the device open for some seconds or until SIGTERM."""
    if settings.makes_quote and settings.platform not in {"", "simulated"}:
        raise SettingsError(
            f"this workload cannot run on the SGX platform {settings.platform!r}",
            error_code="platform-not-simulated",
            why="its enclave is simulated, and only a simulated platform quotes simulated enclaves",
            remedy="run a real enclave program here; this one is for nodes without SGX",
        )
    say(f"SGX platform: {settings.platform or f'not told ({PLATFORM_VARIABLE} is not set)'}")
    say(f"enclave memory: {f'{settings.epc_mib} MiB' if settings.epc_mib else f'not told ({EPC_VARIABLE} is not set)'}")
    with open_enclave_device(settings.devices) as device:
        say(f"enclave device: {device}, open")
        if not settings.makes_quote:
            client = AesmClient(environ=environ)
            client.init_quote()
            say(f"AESM service: quotes of {client.quote_size()} bytes")
            if settings.print_result:
                say(RESULT_PREFIX + json.dumps({"quote_ms": None}))
            return
        enclave = settings.enclave()
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
        if settings.print_result:
            say(RESULT_PREFIX + json.dumps({"quote_ms": round(took_ms, 1)}))
        say(f"done: a quote of {len(quoted.quote)} bytes in {took_ms:.1f} ms")
        if settings.hold_seconds:
            hold(settings.hold_seconds)


def _say(line: str) -> None:
    sys.stdout.write(printable(line) + "\n")
    # stdout may be a pipe, which is block-buffered. Without a flush, the log would show lines late.
    sys.stdout.flush()


def _hold(seconds: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    _say(f"holding the enclave for {seconds} s, or until SIGTERM")
    stop.wait(min(seconds, threading.TIMEOUT_MAX))


def _exit_now(_number: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


@contextmanager
def open_enclave_device(candidates: Sequence[Path]) -> Iterator[Path]:
    """Open the first existing candidate until the block ends, for reading and writing as enclave loaders do."""
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


if __name__ == "__main__":
    sys.exit(main())
