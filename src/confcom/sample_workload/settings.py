"""The workload's settings, from its arguments and its container's environment."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from confcom.errors import MalformedError, SettingsError
from confcom.sgx.report import REPORT_DATA_SIZE, report_data_from

CHALLENGE_VARIABLE: Final = "CONFCOM_CHALLENGE"
"""The relying party's challenge in hex; it becomes the report data, padded with zeros."""

DEVICE_VARIABLE: Final = "CONFCOM_SGX_ENCLAVE_DEVICE"
"""The path of the device node; set by a runner that cannot provide the device at its usual path."""

PLATFORM_VARIABLE: Final = "CONFCOM_SGX_PLATFORM"
"""`hardware` or `simulated`, from the device plugin."""

EPC_VARIABLE: Final = "CONFCOM_SGX_EPC_MIB"
"""The container's enclave memory in MiB, from the device plugin."""

DEFAULT_ENCLAVE_NAME: Final = "confcom sample workload"

ENCLAVE_DEVICES: Final = (Path("/dev/sgx_enclave"), Path("/dev/sgx/enclave"))
"""The device nodes for loading enclaves, of Linux since 5.11 and of Intel's older driver."""


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """The settings of one run."""

    report_data: bytes
    """64 bytes: the challenge, then zeros."""
    challenge_size: int
    devices: tuple[Path, ...]
    platform: str
    epc_mib: str
    enclave_name: str
    debug: bool
    output: Path | None
    hold_seconds: float
    print_identity: bool

    @classmethod
    def read(cls, argv: Sequence[str] | None, environ: Mapping[str, str]) -> Self:
        """Read arguments and environment; argparse itself exits on wrong arguments."""
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
            debug=options.debug_enclave,
            output=options.output,
            hold_seconds=options.hold,
            print_identity=options.print_identity,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m confcom.sample_workload",
        description="Load a simulated enclave, have it report on a challenge, and get a quote of it out of process.",
        epilog=f"Environment: SGX_AESM_ADDR must be set. {CHALLENGE_VARIABLE}: hex, up to {REPORT_DATA_SIZE} bytes. "
        f"CONFCOM_AESM_SOCKET and {DEVICE_VARIABLE}: other paths than /var/run/aesmd/aesm.socket and "
        f"{ENCLAVE_DEVICES[0]}.",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the quote to FILE too; a line on stdout always carries it"
    )
    parser.add_argument("--enclave", type=_name, default=DEFAULT_ENCLAVE_NAME, metavar="NAME", help="decides MRENCLAVE")
    parser.add_argument("--debug-enclave", action="store_true", help="launch the enclave with DEBUG")
    parser.add_argument(
        "--hold",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="keep running (and hold the enclave memory) after the quote, until SIGTERM or this long",
    )
    parser.add_argument(
        "--print-identity",
        action="store_true",
        help="only print the enclave's MRENCLAVE and MRSIGNER as JSON: what its builder publishes to relying parties",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


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
            remedy="leave it to the device plugin: it sets it in every container that has enclave memory",
        )
    return text


def _challenge(text: str) -> tuple[bytes, bytes]:
    """Return the challenge and its report data, which is all zeros without a challenge; the output shows its size."""
    try:
        challenge = bytes.fromhex(text)
        return challenge, report_data_from(challenge) if challenge else bytes(REPORT_DATA_SIZE)
    except (ValueError, MalformedError) as error:
        raise SettingsError(
            f"{CHALLENGE_VARIABLE} cannot be used",
            error_code="variable-refused",
            why=str(error),
            remedy=f"give two of 0-9 and a-f for each of 1 to {REPORT_DATA_SIZE} bytes",
        ) from error
