"""`python -m bench.controller`: the controller with many nodes and Pods in a real API server.

No kubelet and no scheduler runs: nodes and Pods are objects, and all plugins are one HTTP server.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.api_objects import in_parallel, make_node, make_pod
from bench.report import Section, publish, say_as
from e2e.plain_api_server import PlainApiServer, cpu_seconds, memory_kib, serving
from e2e.plain_controller import MERGE, SYSTEM, USER, Objects, Plugins, controlling, install, inventory
from e2e.waiting import until

APPEARING = 10
"""Plugins that appear one after the other, and as many again under changes."""
RATE, LOADED_SECONDS, WARM_SECONDS = 50, 30.0, 2.0
"""Changes per second, a fifth of them of nodes; for so long their cost is measured, after a while."""
WRITE_SECONDS = 900.0
POLL_SECONDS = 0.02
EPC_MIB = 262_144
"""Of each node."""

say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.controller", description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000, metavar="N", help="default: %(default)s")
    parser.add_argument("--pods", type=int, default=20000, metavar="N", help="default: %(default)s")
    parser.add_argument("--plugins", type=int, default=2000, metavar="N", help="nodes with a plugin at the start")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), [USER]) as server,
        Plugins().answering() as plugins,
    ):
        section = measure(server, plugins, options)
    publish("controller", [section], options.output)
    return 0


def measure(server: PlainApiServer, plugins: Plugins, options: argparse.Namespace) -> Section:
    """Fill the API server, run the controller, and measure."""
    title = f"Controller: {options.nodes} nodes, {options.plugins} of them with a plugin, {options.pods} Pods"
    side = "controller"
    section = Section(title, [side])
    install(server, "controller.maxEpcMiBPerNode=1048576")
    plugins.document = inventory(EPC_MIB)
    say(f"{options.nodes} nodes, {options.pods} Pods, {options.plugins} plugins")
    in_parallel(server, make_node, range(options.nodes))
    in_parallel(server, lambda objects, number: make_pod(objects, number, options.nodes), range(options.pods))
    in_parallel(server, lambda objects, n: _add_plugin(objects, n, plugins.address), range(options.plugins))
    objects = Objects(server)
    say("the controller starts")
    begun = time.monotonic()
    with controlling(server, plugins.port) as controller:
        pid = controller.process.pid
        until(controller.is_ready, "the controller is ready", seconds=WRITE_SECONDS)
        section.add(side, "start to ready", "s", time.monotonic() - begun)
        until(lambda: controller.metric("writes_total") >= options.plugins, "all is written", seconds=WRITE_SECONDS)
        section.add(side, "start to all nodes written", "s", time.monotonic() - begun)
        section.add(side, "CPU of it", "s", cpu_seconds(pid))
        say("plugins appear")
        appeared = _appear(objects, plugins, range(options.plugins, options.plugins + APPEARING))
        section.add(side, "a plugin appears to capacity", "s", *appeared)
        say(f"{RATE} changes a second")
        stop = threading.Event()
        changing = threading.Thread(target=_change, args=(server, stop, options))
        changing.start()
        time.sleep(WARM_SECONDS)
        at, cpu, events = time.monotonic(), cpu_seconds(pid), controller.metric("watch_events_total")
        time.sleep(LOADED_SECONDS)
        seconds = time.monotonic() - at
        section.add(side, "CPU under changes", "% of a core", (cpu_seconds(pid) - cpu) / seconds * 100)
        received = controller.metric("watch_events_total") - events
        section.add(side, "events received under changes", "/s", received / seconds)
        first = options.plugins + APPEARING
        loaded = _appear(objects, plugins, range(first, first + APPEARING))
        section.add(side, "a plugin appears to capacity, under changes", "s", *loaded)
        stop.set()
        changing.join()
        resident, peak = memory_kib(pid)
        section.add(side, "memory", "MiB", resident / 1024)
        section.add(side, "memory at most", "MiB", peak / 1024)
    return section


def _add_plugin(objects: Objects, number: int, address: str) -> None:
    """Make a plugin's Pod that runs on a node."""
    objects.add_pod(f"plugin-{number}", f"node-{number}", namespace=SYSTEM, ip=address, plugin=True)


def _appear(objects: Objects, plugins: Plugins, numbers: Iterable[int]) -> list[float]:
    """Seconds from each plugin's appearing to its node's capacity."""
    taken = []
    for number in numbers:
        _add_plugin(objects, number, plugins.address)
        begun = time.monotonic()
        while objects.amounts(f"node-{number}")[0] is None:
            time.sleep(POLL_SECONDS)
        taken.append(time.monotonic() - begun)
    return taken


def _change(server: PlainApiServer, stop: threading.Event, options: argparse.Namespace) -> None:
    """Change Pods and nodes until the event is set."""
    objects, number, due = Objects(server), 0, time.monotonic()
    while not stop.is_set():
        body = {"metadata": {"annotations": {"changed": str(number)}}}
        number += 1
        path = f"/api/v1/namespaces/default/pods/pod-{number * 7 % options.pods}"
        if number % 5 == 0:
            path = f"/api/v1/nodes/node-{number % min(500, options.nodes)}"
        objects.send("PATCH", path, body, MERGE)
        due += 1 / RATE
        stop.wait(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
