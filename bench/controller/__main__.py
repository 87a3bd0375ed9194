"""`python -m bench.controller`: the controller with many nodes and Pods in a real API server.

No kubelet and no scheduler runs: nodes and Pods are objects, as large as in a real cluster, and all plugins are one
HTTP server. Measured are the time until everything is listed and written, the time from the appearance of one plugin
to its node's capacity, memory, and CPU time under a stream of changes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2e.plain_api_server import PlainApiServer, cpu_seconds, memory_kib, serving
from e2e.plain_controller import (
    EPC,
    LABELS,
    MERGE,
    SYSTEM,
    USER,
    Controller,
    Objects,
    Plugins,
    controlling,
    install,
    inventory,
)
from e2e.waiting import until

THREADS = 6
IMAGES = 40
"""Image names in a node's status: with them it has 12 kB, as in a cluster that is in use."""
WRITE_SECONDS = 900.0
POD_PADDING = 5000
"""Characters that bring a Pod to 7 kB, as managed fields, volumes and conditions do."""


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured. Seconds, MiB.

    Args:
        nodes: how many there were.
        pods: how many Pods, a tenth of them with EPC.
        plugins: how many nodes had a plugin that counts by capacity.
        listed: from the controller's start until it was ready.
        written: from its start until all nodes with plugins had their capacity.
        start_cpu: CPU time until then.
        appeared: from a plugin's Pod being marked Running to its node's capacity: median, and the longest.
        appeared_under_load: the same during the stream of changes.
        memory: resident after that, and at the peak.
        events_per_second: changes per second that the controller received during the stream.
        cpu_per_second: CPU seconds per second, in percent, during the stream.
        restart_listed: from the start of another controller, with all capacity written, until it was ready.
    """

    nodes: int
    pods: int
    plugins: int
    listed: float
    written: float
    start_cpu: float
    appeared: tuple[float, float]
    appeared_under_load: tuple[float, float]
    memory: tuple[float, float]
    events_per_second: float
    cpu_per_second: float
    restart_listed: float


def in_parallel(server: PlainApiServer, work: Callable[[Objects, int], None], numbers: Iterable[int]) -> None:
    """Do some work for each number, by several clients."""
    local = threading.local()

    def one(number: int) -> None:
        if not hasattr(local, "objects"):
            local.objects = Objects(server)
        work(local.objects, number)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(one, numbers, chunksize=1):
            pass


def make_node(objects: Objects, number: int) -> None:
    """Make a node of a real one's size."""
    images = [
        {"names": [f"registry.test/path/to/an/image-{image}@sha256:{image:064x}", f"registry.test/image-{image}:1.2.3"]}
        for image in range(IMAGES)
    ]
    conditions = [{"type": kind, "status": "True", "reason": "x", "message": "y" * 60} for kind in ("Ready", "A", "B")]
    amounts = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    status = {"capacity": amounts, "allocatable": amounts, "images": images, "conditions": conditions}
    metadata = {"name": f"node-{number}", "labels": LABELS}
    objects.send("POST", "/api/v1/nodes", {"metadata": metadata, "status": status})


def make_pod(objects: Objects, number: int, nodes: int) -> None:
    """Make a bound Pod of a real one's size; every tenth has EPC."""
    metadata = {"name": f"pod-{number}", "namespace": "default", "annotations": {"x": "x" * POD_PADDING}}
    resources = {"limits": {EPC: "16"}} if number % 10 == 0 else {}
    container = {"name": "c", "image": "registry.test/none", "resources": resources}
    spec = {"nodeName": f"node-{number % nodes}", "containers": [container]}
    objects.send("POST", "/api/v1/namespaces/default/pods", {"metadata": metadata, "spec": spec})


def add_plugin(objects: Objects, number: int, address: str) -> None:
    """Make a plugin's Pod that runs on a node."""
    objects.add_pod(f"plugin-{number}", f"node-{number}", namespace=SYSTEM, ip=address, plugin=True)


def appearing(objects: Objects, plugins: Plugins, numbers: Iterable[int]) -> tuple[float, float]:
    """Return how long it takes from a plugin's appearing to its node's capacity: median, and the longest."""
    taken = []
    for number in numbers:
        add_plugin(objects, number, plugins.address)
        begun = time.monotonic()
        while objects.amounts(f"node-{number}")[0] is None:
            time.sleep(0.02)
        taken.append(time.monotonic() - begun)
    return statistics.median(taken), max(taken)


def churn(server: PlainApiServer, stop: threading.Event, rate: float, pods: int) -> None:
    """Change Pods and nodes, so many times a second, until told to stop."""
    objects, number, due = Objects(server), 0, time.monotonic()
    while not stop.is_set():
        body = {"metadata": {"annotations": {"changed": str(number)}}}
        number += 1
        if number % 5 == 0:
            objects.send("PATCH", f"/api/v1/nodes/node-{number % 500}", body, MERGE)
        else:
            objects.send("PATCH", f"/api/v1/namespaces/default/pods/pod-{number * 7 % pods}", body, MERGE)
        due += 1 / rate
        stop.wait(max(0.0, due - time.monotonic()))


def measure(server: PlainApiServer, plugins: Plugins, options: argparse.Namespace) -> Result:
    """Fill the API server, run the controller, and measure."""
    install(server, "controller.maxEpcMiBPerNode=1048576")
    plugins.document = inventory(262144)
    progress(f"{options.nodes} nodes")
    in_parallel(server, make_node, range(options.nodes))
    progress(f"{options.pods} Pods")
    in_parallel(server, lambda objects, number: make_pod(objects, number, options.nodes), range(options.pods))
    progress(f"{options.plugins} plugins")
    in_parallel(server, lambda objects, n: add_plugin(objects, n, plugins.address), range(options.plugins))
    objects = Objects(server)
    progress("the controller starts")
    begun = time.monotonic()
    with controlling(server, plugins.port) as controller:
        until(controller.is_ready, "the controller is ready", seconds=WRITE_SECONDS)
        listed = time.monotonic() - begun
        until(lambda: written(controller) >= options.plugins, "all is written", seconds=WRITE_SECONDS)
        all_written, start_cpu = time.monotonic() - begun, cpu_seconds(controller.process.pid)
        progress("plugins appear")
        appeared = appearing(objects, plugins, range(options.plugins, options.plugins + options.rounds))
        progress("changes")
        stop = threading.Event()
        changing = threading.Thread(target=churn, args=(server, stop, options.rate, options.pods))
        changing.start()
        time.sleep(2)
        at, cpu, seen = time.monotonic(), cpu_seconds(controller.process.pid), controller.metric("watch_events_total")
        time.sleep(options.seconds)
        seconds = time.monotonic() - at
        share = (cpu_seconds(controller.process.pid) - cpu) / seconds
        rate = (controller.metric("watch_events_total") - seen) / seconds
        first = options.plugins + options.rounds
        loaded = appearing(objects, plugins, range(first, first + options.rounds))
        stop.set()
        changing.join()
        memory = memory_kib(controller.process.pid)
        controller.end()
    progress("another controller starts")
    begun = time.monotonic()
    with controlling(server, plugins.port, name="again") as controller:
        until(controller.is_ready, "the controller is ready", seconds=WRITE_SECONDS)
        again = time.monotonic() - begun
    resident, peak = (kib / 1024 for kib in memory)
    return Result(
        options.nodes,
        options.pods,
        options.plugins,
        listed,
        all_written,
        start_cpu,
        appeared,
        loaded,
        (resident, peak),
        rate,
        100 * share,
        again,
    )


def written(controller: Controller) -> float:
    """Return how many nodes the controller has written."""
    return controller.metric("writes_total")


def progress(what: str) -> None:
    """Say what begins."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def table(result: Result) -> str:
    """Return the result for people."""
    lines: list[tuple[str, str]] = [
        ("nodes, Pods, nodes with a plugin", f"{result.nodes}, {result.pods}, {result.plugins}"),
        ("start to ready", f"{result.listed:.1f} s"),
        ("start to all nodes written", f"{result.written:.1f} s, {result.start_cpu:.1f} s of CPU"),
        ("plugin appears to capacity", "{:.2f} s (longest {:.2f})".format(*result.appeared)),
        ("the same under changes", "{:.2f} s (longest {:.2f})".format(*result.appeared_under_load)),
        ("memory", "{:.0f} MiB (peak {:.0f})".format(*result.memory)),
        ("CPU under changes", f"{result.cpu_per_second:.1f} % at {result.events_per_second:.0f} events/s"),
        ("restart to ready", f"{result.restart_listed:.1f} s"),
    ]
    width = max(len(name) for name, _ in lines)
    return "".join(f"{name:{width}}  {value}\n" for name, value in lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, and print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.controller", description="Measure the controller at scale.")
    for name, default in {
        "nodes": 5000,
        "pods": 20000,
        "plugins": 2000,
        "rounds": 10,
        "rate": 50,
        "seconds": 30,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), [USER]) as server,
        Plugins().answering() as plugins,
    ):
        result = measure(server, plugins, options)
    sys.stdout.write(table(result))
    if options.json:
        document: dict[str, Any] = asdict(result)
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
