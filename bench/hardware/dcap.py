"""The child process with Intel's libraries beside calling these directly: stand-ins that take 1.3 ms for a quote."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.load import ENCLAVE
from bench.machine import Cores, on_core, with_byte_code
from bench.summary import Latency, Spread
from confcom.quote_provider.base import QuoteProviderError, QuotingIdentity
from confcom.quote_provider.dcap.captured_lines import CapturedLines
from confcom.quote_provider.dcap.child import DcapLibraries
from confcom.quote_provider.dcap.child_process import ChildProcess
from confcom.quote_provider.dcap.frames import Call, Request
from confcom.quote_provider.dcap.provider import DcapQuoteProvider
from confcom.quote_provider.expected_root import read_expected_root
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import open_platform
from confcom.sgx.report import Report
from testkit.stub_dcap import build_libraries

QUOTE_MICROSECONDS = 1300
"""What Intel's library takes for a quote (measured in simulation)."""
REPORT_FILE = "report.bin"
ANSWER_SECONDS = 30.0
"""After which the child counts as hung."""


@dataclass(frozen=True, slots=True)
class DcapPlan:
    """How much is measured; a quote takes 1.3 ms."""

    rounds: int = 7
    quotes: int = 200
    """For each side and round."""
    kills: int = 7


@dataclass(frozen=True, slots=True)
class DcapResults:
    """What was measured, in seconds; the first three have the median of each round."""

    plan: DcapPlan
    direct: list[float]
    """The library's functions, called by ctypes in a process of their own."""
    by_child: list[float]
    """The same by the child process."""
    checked: list[float]
    """Quotes of the provider: by the child process, and checked."""
    replaced: Spread
    """From SIGKILL for the child to the next quote."""

    @property
    def hop(self) -> Spread:
        """What the child process adds to the median, by round."""
        return added(self.by_child, self.direct)

    @property
    def whole(self) -> Spread:
        """What the child process and the checks add to the median, by round."""
        return added(self.checked, self.direct)


def added(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The differences of rounds."""
    return Spread.of([mine - other for mine, other in zip(ours, theirs, strict=True)])


def has_compiler() -> bool:
    """Whether the stand-ins can be built."""
    return shutil.which("cc") is not None


def measure_dcap(plan: DcapPlan, directory: Path, *, say: Callable[[str], None]) -> DcapResults:
    """Measure it."""
    cores = Cores.choose()
    platform = SimulatedQuoteProvider.open_or_create(directory / "state")
    root = directory / "root.pem"
    root.write_bytes(open_platform(directory / "state").pki.root.pem)
    identity = platform.identity()
    report = ENCLAVE.create_report(identity.target_info, bytes(64))
    _write_answers(directory, identity, report, platform.quote(report, None).quote)
    environ = with_byte_code(directory / "byte-code") | {
        "STUB_DCAP_FILES": str(directory),
        "STUB_DCAP_MICROSECONDS": str(QUOTE_MICROSECONDS),
    }
    libraries = directory / "libraries"
    libraries.mkdir()
    build_libraries(libraries)
    request = Request(Call.QUOTE, platform.quote_size(), report.encode(), None)
    direct, by_child, checked = [], [], []
    with on_core(cores.server), contextlib.ExitStack() as stack:  # children stay there
        provider = DcapQuoteProvider.by_child(
            read_expected_root(root), environ=environ, library_dir=libraries, pauses=(0,)
        )
        stack.callback(provider.close)
        child = ChildProcess.start(environ, libraries, CapturedLines(time.monotonic))
        stack.callback(child.kill)
        say(f"{plan.rounds} rounds of the DCAP child beside calling the libraries directly")
        for _ in range(plan.rounds):
            direct.append(_called_directly(plan.quotes, environ, libraries))
            by_child.append(_median(plan.quotes, lambda: child.ask(request, time.monotonic() + ANSWER_SECONDS)))
            checked.append(_median(plan.quotes, lambda: provider.quote(report, None)))
        say(f"the DCAP child is killed {plan.kills} times")
        child.kill()
        replaced = [_seconds_after_kill(provider, report) for _ in range(plan.kills)]
    return DcapResults(plan, direct, by_child, checked, Spread.of(replaced))


def _write_answers(directory: Path, identity: QuotingIdentity, report: Report, quote: bytes) -> None:
    (directory / "target_info.bin").write_bytes(identity.target_info.encode())
    (directory / "key_id.bin").write_bytes(identity.pub_key_id)
    (directory / REPORT_FILE).write_bytes(report.encode())
    (directory / "quote.bin").write_bytes(quote)


def _median(count: int, call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return Latency.of(seconds).p50


def _seconds_after_kill(provider: DcapQuoteProvider, report: Report) -> float:
    provider.quote(report, None)
    (child,) = (int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
    began = time.perf_counter()
    os.kill(child, signal.SIGKILL)
    try:
        provider.quote(report, None)
    except QuoteProviderError as error:
        if not error.lost:
            raise
        provider.quote(report, None)  # as the helper repeats a call that was lost with its child
    return time.perf_counter() - began


def _called_directly(quotes: int, environ: dict[str, str], libraries: Path) -> float:
    command = [sys.executable, "-m", "bench.hardware.dcap", str(quotes), environ["STUB_DCAP_FILES"]]
    done = subprocess.run(
        command, env=environ | {"LD_LIBRARY_PATH": str(libraries)}, capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout))


def call_directly(quotes: int, directory: Path) -> float:
    """Call the library in this process; return the median in seconds."""
    libraries = DcapLibraries()
    size = libraries.call(Request(Call.SIZE)).size
    request = Request(Call.QUOTE, size, (directory / REPORT_FILE).read_bytes(), None)
    return _median(quotes, lambda: libraries.call(request))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(call_directly(int(sys.argv[1]), Path(sys.argv[2]))))
