"""Floods a daemon's probe server. Meanwhile a prober with the kubelet's timeouts and a quoting client run.

The program `python -m testkit.probe_flood --seconds 60` floods a helper from the checkout in PYTHONPATH, and prints a
row for each flood. The exit code is 1 if a probe or a quote failed, or if quotes' p99 rose by over GOAL_MS.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confcom.client import AesmClient
from confcom.simulation.enclave import SimulatedEnclave
from testkit.helper_process import RunningHelper, start_helper

SOURCE = Path(__file__).with_suffix(".c")
ADDRESSES, RATES = (1, 33, 110, 1000), (200, 1000, 3000)
TIMEOUTS = {"/livez": 5.0, "/readyz": 2.0}
"""The chart's timeoutSeconds of probes, keyed by the probe's path."""
PROBE_SECONDS, QUOTE_SECONDS = 0.1, 0.01
"""Pauses in seconds between probes of a path (a kubelet's period is 2 or 10 s), and between quotes."""
NICE = 10
"""Niceness of the flood's process, so that the daemon is tested and not the kernel's scheduler."""
GOAL_MS = 20.0


@dataclass(frozen=True, slots=True)
class Flood:
    """A flood with `rate` requests per second from a number of addresses; the C source explains the kinds."""

    kind: str
    path: str
    addresses: int
    rate: int


@dataclass(slots=True)
class Observed:
    probes: int = 0
    failures: list[str] = field(default_factory=list)
    slowest_probe: float = 0.0
    quotes: list[float] = field(default_factory=list)
    """Duration of each quote in seconds."""
    quote_failures: list[str] = field(default_factory=list)

    @property
    def quotes_p99_ms(self) -> float:
        return statistics.quantiles(self.quotes, n=100)[98] * 1000


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(directory: Path) -> Path:
    program = directory / "probe_flood"
    subprocess.run([str(compiler()), "-O2", "-Wall", "-o", str(program), str(SOURCE)], check=True)
    return program


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def flooding(program: Path, port: int, seconds: float, flood: Flood) -> Iterator[dict[str, int]]:
    """Flood for `seconds` while the block runs; afterwards the yielded mapping has the generator's counts."""
    counts: dict[str, int] = {}
    command = ("nice", "-n", NICE, program, port, flood.addresses, flood.rate, seconds, flood.path, flood.kind)
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as process:
        try:
            yield counts
            counts |= json.loads(process.communicate(timeout=seconds + 30)[0])
        finally:
            process.kill()


def observe(
    port: int, seconds: float, quote: Callable[[], object] | None = None, timeouts: Mapping[str, float] = TIMEOUTS
) -> Observed:
    """Send probes for this number of seconds, and call `quote` at the same time."""
    observed, end = Observed(), time.monotonic() + seconds
    threads = [threading.Thread(target=_probe, args=(observed, port, *each, end)) for each in timeouts.items()]
    if quote is not None:
        threads.append(threading.Thread(target=_quote, args=(observed, quote, end)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return observed


def quoting(path: Path) -> Callable[[], object]:
    """Read the target info; return a function that requests one quote with this target info."""
    client = AesmClient(path)
    report = SimulatedEnclave.from_name("victim").create_report(client.init_quote().target_info, bytes(64))
    return lambda: client.get_quote(report)


def get(port: int, path: str, seconds: float) -> bytes:
    """Return a complete answer; raise an OSError if the answer takes longer than this number of seconds."""
    end = time.monotonic() + seconds
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.37\r\n\r\n".encode())
        while True:
            client.settimeout(max(0.001, end - time.monotonic()))
            chunk = client.recv(65_536)
            if not chunk:
                return answer
            answer += chunk


@contextlib.contextmanager
def helper_at(port: int) -> Iterator[RunningHelper]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="flood-") as name:
        helper = start_helper("--probe-address", f"127.0.0.1:{port}", directory=Path(name))
        try:
            helper.wait_until(lambda: answers(port, "/readyz"))
            yield helper
        finally:
            helper.process.kill()
            helper.process.wait()


def answers(port: int, path: str) -> bool:
    try:
        return get(port, path, 1.0).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _probe(observed: Observed, port: int, path: str, timeout: float, end: float) -> None:
    while (begin := time.monotonic()) < end:
        try:
            answer = get(port, path, timeout)
            if not answer.startswith(b"HTTP/1.1 200"):
                observed.failures.append(f"{path}: {answer[:40]!r}")
        except OSError as error:
            observed.failures.append(f"{path}: {error}")
        observed.probes += 1
        observed.slowest_probe = max(observed.slowest_probe, time.monotonic() - begin)
        time.sleep(PROBE_SECONDS)


def _quote(observed: Observed, quote: Callable[[], object], end: float) -> None:
    while (begin := time.monotonic()) < end:
        try:
            quote()
        except Exception as error:  # noqa: BLE001 # any error is a failed quote
            observed.quote_failures.append(str(error))
        else:
            observed.quotes.append(time.monotonic() - begin)
        time.sleep(QUOTE_SECONDS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testkit.probe_flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--paths", nargs="+", default=["/readyz", "/metrics"])
    parser.add_argument("--kinds", nargs="+", default=["ask", "half", "unread", "silent"])
    parser.add_argument("--addresses", nargs="+", type=int, default=ADDRESSES)
    parser.add_argument("--rates", nargs="+", type=int, default=RATES)
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="flood-") as name:
        program, port = build(Path(name)), free_port()
        for each in itertools.product(options.kinds, options.paths, options.addresses, options.rates):
            flood = Flood(*each)
            with helper_at(port) as helper:
                quote = quoting(helper.socket)
                calm = observe(port, min(10.0, options.seconds), quote)
                with flooding(program, port, options.seconds, flood) as counts:
                    seen = observe(port, options.seconds, quote)
                used = Path(f"/proc/{helper.process.pid}/stat").read_text().rpartition(")")[2].split()
                cpu = (int(used[11]) + int(used[12])) / 100
            good = not seen.failures and not seen.quote_failures and seen.quotes_p99_ms - calm.quotes_p99_ms <= GOAL_MS
            missed += not good
            row = {
                "flood": f"{flood.kind} {flood.path}, {flood.addresses} addresses, {flood.rate}/s",
                "ok": good,
                "probes": seen.probes,
                "failed": len(seen.failures),
                "slowest_probe_ms": round(seen.slowest_probe * 1000),
                "quotes": len(seen.quotes),
                "quotes_failed": len(seen.quote_failures),
                "p99_ms": [round(calm.quotes_p99_ms, 1), round(seen.quotes_p99_ms, 1)],
                "helper_cpu_seconds": cpu,
            } | counts
            print(json.dumps(row), flush=True)  # noqa: T201
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
