"""`python -m bench.controller`: the controller with many nodes in a real API server.

No kubelet or scheduler runs: nodes and Pods are objects, reports are patches, one server acts for all plugins.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from bench.api_objects import in_parallel, make_node, make_pod
from bench.machine import cpu_seconds, resident_bytes
from bench.report import Goal, Measured, Section, command_line, run, say
from e2e.add_on import EPC, SYSTEM
from e2e.plain_api_server import PlainApiServer, serving
from e2e.plain_controller import MERGE, USER, Objects, Plugins, controlling, install, inventory
from e2e.relay import Relay
from e2e.waiting import until

APPEARING = 10
"""Number of plugins that appear in turn, once without and once with load; as many nodes are set to zero."""
STATUS_SECONDS = 300
"""Interval of a kubelet's reports of a node's status when nothing changes."""
CHURN, TENANTS = 50, 20
"""Changes of nodes' statuses per second under load, and changes of tenants' Pods at the same time."""
MEASURED_SECONDS, WARM_SECONDS = 60.0, 10.0
WRITE_SECONDS = 1800.0
POLL_SECONDS = 0.02
NODES = 5_000
GOALS = {
    "start to ready": Goal(6.0),
    "start to all nodes written": Goal(120.0),
    "churn: CPU": Goal(2.0),
    "churn: a plugin appears to capacity": Goal(1.0),
    "churn: a zero to capacity": Goal(1.0),
    "memory at most": Goal(96.0),
}
"""Goals for a cluster of NODES nodes."""
EPC_MIB = 262_144
"""MiB of EPC of each node."""


def measure(options: argparse.Namespace) -> Measured:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), [USER]) as server,
        Plugins().answering() as plugins,
    ):
        return [measure_controller(server, plugins, options)], {}


def measure_controller(server: PlainApiServer, plugins: Plugins, options: argparse.Namespace) -> Section:
    title = f"Controller: {options.nodes} nodes, {options.plugins} of them with a plugin, {options.pods} Pods"
    side = "controller"
    section = Section(title, [side], GOALS if options.nodes == NODES else {})
    install(server, "controller.maxEpcMiBPerNode=1048576")
    plugins.document = inventory(EPC_MIB)
    say(f"{options.nodes} nodes, {options.pods} Pods, {options.plugins} plugins")
    objects = Objects(server)
    in_parallel(partial(make_node, objects), range(options.nodes))
    in_parallel(partial(make_pod, objects, nodes=options.nodes), range(options.pods))
    in_parallel(partial(_add_plugin, objects, address=plugins.address), range(options.plugins))
    with Relay(server.port).serving() as relay:
        selector = "--node-selector=confcom.internal/simulated-sgx=true"
        relayed = f"--kubeconfig={server.kubeconfig(USER, relay.port)}"
        say("the controller starts")
        begun = time.monotonic()
        with controlling(server, plugins.port, selector, relayed) as controller:
            pid = controller.process.pid
            until(controller.is_ready, "the controller is ready", seconds=WRITE_SECONDS)
            section.add(side, "start to ready", "s", time.monotonic() - begun)
            until(lambda: controller.metric("writes_total") >= options.plugins, "all is written", seconds=WRITE_SECONDS)
            section.add(side, "start to all nodes written", "s", time.monotonic() - begun)
            section.add(side, "CPU of it", "s", cpu_seconds(pid))
            section.add(side, "memory at most, at the start", "MiB", resident_bytes(pid, peak=True) / 2**20)

            def spend(name: str) -> None:
                time.sleep(WARM_SECONDS)
                at, cpu, received, asked = time.monotonic(), cpu_seconds(pid), relay.received, plugins.asked
                time.sleep(MEASURED_SECONDS)
                seconds = time.monotonic() - at
                section.add(side, f"{name}: CPU", "% of a core", (cpu_seconds(pid) - cpu) / seconds * 100)
                section.add(side, f"{name}: from the API server", "kB/s", (relay.received - received) / seconds / 1000)
                section.add(side, f"{name}: plugins asked", "/s", (plugins.asked - asked) / seconds)
                section.add(side, f"{name}: memory", "MiB", resident_bytes(pid) / 2**20)

            first = options.plugins
            for name, rate, tenants in (("idle", options.nodes / STATUS_SECONDS, 0.0), ("churn", CHURN, TENANTS)):
                say(f"{name}: {rate:.0f} node statuses and {tenants:.0f} changes of tenants' Pods a second")
                with (
                    _repeating(rate, partial(_report, objects, nodes=options.nodes)),
                    _repeating(tenants, partial(_change_pod, objects, pods=options.pods)),
                ):
                    spend(name)
                    added, wiped = range(first, first + APPEARING), range(APPEARING)
                    taken = _to_capacity(objects, partial(_add_plugin, objects, address=plugins.address), added)
                    section.add(side, f"{name}: a plugin appears to capacity", "s", *taken)
                    taken = _to_capacity(objects, partial(_wipe, objects), wiped)
                    section.add(side, f"{name}: a zero to capacity", "s", *taken)
                first += APPEARING
            section.add(side, "memory at most", "MiB", resident_bytes(pid, peak=True) / 2**20)
    return section


def _add_plugin(objects: Objects, number: int, address: str) -> None:
    objects.add_pod(f"plugin-{number}", f"node-{number}", namespace=SYSTEM, ip=address, plugin=True)


def _wipe(objects: Objects, number: int) -> None:
    """Set a node's amount of EPC to zero, as a kubelet does."""
    objects.set_status(f"node-{number}", {"capacity": {EPC: "0"}, "allocatable": {EPC: "0"}})


def _to_capacity(objects: Objects, change: Callable[[int], None], numbers: Iterable[int]) -> Iterator[float]:
    """Seconds from each node's change until the node's capacity shows EPC."""
    for number in numbers:
        change(number)
        begun = time.monotonic()
        while objects.amounts(f"node-{number}")[0] in {None, "0"}:
            time.sleep(POLL_SECONDS)
        yield time.monotonic() - begun


def _report(objects: Objects, number: int, nodes: int) -> None:
    """Report a node's status as a kubelet does when only the time of the report has changed."""
    condition = {"type": "Ready", "status": "True", "reason": "x", "message": f"at {number}"}
    path = f"/api/v1/nodes/node-{number * 7 % nodes}/status?fieldManager=kubelet"
    objects.send("PATCH", path, {"status": {"conditions": [condition]}}, "application/strategic-merge-patch+json")


def _change_pod(objects: Objects, number: int, pods: int) -> None:
    body = {"metadata": {"annotations": {"changed": str(number)}}}
    objects.send("PATCH", f"/api/v1/namespaces/default/pods/pod-{number * 7 % pods}", body, MERGE)


@contextlib.contextmanager
def _repeating(rate: float, change: Callable[[int], None]) -> Iterator[None]:
    """Change this many statuses and Pods per second during the block."""
    stop = threading.Event()

    def run() -> None:
        number, due = 0, time.monotonic()
        while rate and not stop.is_set():
            change(number)
            number += 1
            due += 1 / rate
            stop.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


if __name__ == "__main__":
    parser = command_line("bench.controller", __doc__)
    parser.add_argument("--nodes", type=int, default=NODES, metavar="N", help="default: %(default)s")
    parser.add_argument("--pods", type=int, default=20000, metavar="N", help="tenants' Pods (default: %(default)s)")
    parser.add_argument("--plugins", type=int, default=4900, metavar="N", help="nodes with a plugin at the start")
    sys.exit(run(parser, measure))
