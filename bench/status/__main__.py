"""`python -m bench.status`: `confcom status` and the checks of `confcom enable` with thousands of nodes and Pods.

The chart is installed by helm in a real API server. No controller and no kubelet runs: nodes and Pods are objects, as
large as in a real cluster, and all device plugins are one HTTP server.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.status.filling import REGISTRY, fill, install_chart
from e2e.plain_api_server import PlainApiServer, cpu_seconds, memory_kib, serving
from e2e.plain_controller import Plugins

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLE_SECONDS = 0.005
"""Interval at which the peak of a command's memory is read, which the kernel keeps."""
AHEAD = -15
"""Niceness of a session, among those of the machine (sched_autogroup)."""
SETTLE_SECONDS, LOOK_SECONDS = 120.0, 3.0
CALM = 0.2
"""The share of a processor that API server and etcd take when nobody asks them anything, and more."""
COMMANDS = {
    "status": ["status"],
    "preflight": ["enable", "--dry-run", "--simulated", f"--set=image.registry={REGISTRY}"],
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command.

    Args:
        command: which one.
        seconds: from its start to its end.
        cpu: CPU seconds of the command, and of the programs that it runs.
        peak_mib: the most memory that the command itself had.
        exit_code: 8 is usual for status, since nothing runs.
        load: the machine's load average of the last minute before it.
    """

    command: str
    seconds: float
    cpu: tuple[float, float]
    peak_mib: float
    exit_code: int
    load: float


def run_once(server: PlainApiServer, name: str, profile: Path | None) -> Run:
    """Run a command as its user would, and measure it."""
    profiling = ["-m", "cProfile", "-o", str(profile)] if profile else []
    command = [sys.executable, *profiling, "-m", "confcom", *COMMANDS[name], "--output=json"]
    folders = {str(server.tools.path(program).parent) for program in ("kubectl", "helm")}
    environment = os.environ | {
        "KUBECONFIG": str(server.kubeconfig()),
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT / "src"),
    }
    load = os.getloadavg()[0]
    with (server.folder / f"{name}.json").open("wb") as output, (server.folder / f"{name}.err").open("wb") as errors:
        begun, peak = time.monotonic(), 0
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=errors)
        while True:
            try:
                peak = max(peak, memory_kib(process.pid)[1])
            except (OSError, KeyError):  # it has ended
                break
            time.sleep(SAMPLE_SECONDS)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    return Run(name, seconds, (usage.ru_utime, usage.ru_stime), peak / 1024, process.returncode, load)


def settle(server: PlainApiServer) -> None:
    """Wait until the API server and etcd have done what making thousands of objects has left them to do."""
    pids = [server.pid(name) for name in ("etcd", "apiserver")]
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        before = sum(map(cpu_seconds, pids))
        time.sleep(LOOK_SECONDS)
        if sum(map(cpu_seconds, pids)) - before < CALM * LOOK_SECONDS:
            return


def go_first(pid: int) -> None:
    """Give a process's session the CPU before other sessions, which niceness alone does not: as if nothing else ran."""
    Path(f"/proc/{pid}/autogroup").write_text(str(AHEAD))


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a line for each run, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.status", description=(__doc__ or "").partition("\n")[0])
    for name, default, text in (
        ("nodes", 5000, "nodes, each with both daemons"),
        ("pods", 20000, "Pods in all, with the daemons'; every tenth of the others has EPC"),
        ("rounds", 3, "runs of each command"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default: {default})")
    parser.add_argument("--profile", type=Path, help="folder for one cProfile of each command, after the runs")
    parser.add_argument(
        "--first", action="store_true", help="before other work of the machine, as if it were idle (root)"
    )
    parser.add_argument("--json", type=Path, help="also write the result here")
    parser.add_argument("--wait", action="store_true", help="then leave the API server running, until Enter is pressed")
    options = parser.parse_args(arguments)
    runs: list[Run] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), niceness=0) as server,
        Plugins(8080).answering() as plugins,
    ):
        if options.first:
            for pid in (os.getpid(), server.pid("etcd"), server.pid("apiserver")):
                go_first(pid)
        install_chart(server)
        fill(server, plugins, options.nodes, options.pods)
        settle(server)
        for name in COMMANDS:
            for _ in range(options.rounds):
                runs.append(run_once(server, name, None))
                sys.stdout.write(line(runs[-1]))
                sys.stdout.flush()
            if options.profile:
                run_once(server, name, options.profile / f"{name}.pstats")
        if options.wait:
            sys.stderr.write(f"KUBECONFIG={server.kubeconfig()}\n")
            sys.stdin.readline()
    if options.json:
        result = {"nodes": options.nodes, "pods": options.pods, "runs": list(map(asdict, runs))}
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def line(run: Run) -> str:
    """Return a run for people."""
    return (
        f"{run.command:9}  {run.seconds:5.1f} s  CPU {sum(run.cpu):5.1f} s  peak {run.peak_mib:4.0f} MiB  "
        f"exit code {run.exit_code}  load {run.load:.1f}\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
