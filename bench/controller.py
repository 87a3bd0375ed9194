"""`python -m bench.controller`: the controller with many nodes in a real API server.

No kubelet and no scheduler runs: nodes and Pods are objects, kubelets' reports are patches, all plugins are one server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from bench.api_objects import in_parallel, make_node, make_pod
from bench.machine import cpu_seconds, resident_bytes
from bench.report import Measured, Section, command_line, run, say
from e2e.plain_api_server import PlainApiServer, serving
from e2e.plain_controller import EPC, MERGE, SYSTEM, USER, Objects, Plugins, controlling, install, inventory
from e2e.relay import Relay
from e2e.waiting import until

APPEARING = 10
"""Plugins that appear one after the other, and as many again under changes; and nodes that are set to zero."""
STATUS_SECONDS = 300
"""How often a kubelet reports a node's status when nothing changes."""
CHURN, TENANTS = 50, 20
"""Changes per second under load: of nodes' statuses, and of tenants' Pods beside."""
MEASURED_SECONDS, WARM_SECONDS = 60.0, 10.0
WRITE_SECONDS = 1800.0
POLL_SECONDS = 0.02
EPC_MIB = 262_144
"""Of each node."""


def measure(options: argparse.Namespace) -> Measured:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), [USER]) as server,
        Plugins().answering() as plugins,
    ):
        return [measure_controller(server, plugins, options)], {}


def measure_controller(server: PlainApiServer, plugins: Plugins, options: argparse.Namespace) -> Section:
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
    with Relay(server.port).serving() as relay:
        flags = ("--node-selector=confcom.internal/simulated-sgx=true", f"--kubeconfig={_through(server, relay.port)}")
        say("the controller starts")
        begun = time.monotonic()
        with controlling(server, plugins.port, *flags) as controller:
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
                    _repeating(server, rate, lambda o, n: _report(o, n, options.nodes)),
                    _repeating(server, tenants, lambda o, n: _change_pod(o, n, options.pods)),
                ):
                    spend(name)
                    taken = _appear(objects, plugins, range(first, first + APPEARING))
                    section.add(side, f"{name}: a plugin appears to capacity", "s", *taken)
                    section.add(side, f"{name}: a zero to capacity", "s", *_wipe(objects, range(APPEARING)))
                first += APPEARING
            section.add(side, "memory at most", "MiB", resident_bytes(pid, peak=True) / 2**20)
    return section


def _through(server: PlainApiServer, port: int) -> Path:
    config = json.loads(server.kubeconfig(USER).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = server.folder / "relayed.kubeconfig"
    path.write_text(json.dumps(config))
    return path


def _add_plugin(objects: Objects, number: int, address: str) -> None:
    objects.add_pod(f"plugin-{number}", f"node-{number}", namespace=SYSTEM, ip=address, plugin=True)


def _appear(objects: Objects, plugins: Plugins, numbers: Iterable[int]) -> list[float]:
    """Seconds from each plugin's appearing to its node's capacity."""
    return [_seconds(objects, number, lambda n: _add_plugin(objects, n, plugins.address)) for number in numbers]


def _wipe(objects: Objects, numbers: Iterable[int]) -> list[float]:
    """Seconds from each node's zero, as a kubelet writes it, to its capacity."""
    zero = {EPC: "0"}
    return [
        _seconds(objects, number, lambda n: objects.set_status(f"node-{n}", {"capacity": zero, "allocatable": zero}))
        for number in numbers
    ]


def _seconds(objects: Objects, number: int, change: Callable[[int], None]) -> float:
    change(number)
    begun = time.monotonic()
    while objects.amounts(f"node-{number}")[0] in {None, "0"}:
        time.sleep(POLL_SECONDS)
    return time.monotonic() - begun


def _report(objects: Objects, number: int, nodes: int) -> None:
    """Report a node's status, as a kubelet does when nothing has changed: with the time."""
    condition = {"type": "Ready", "status": "True", "reason": "x", "message": f"at {number}"}
    path = f"/api/v1/nodes/node-{number * 7 % nodes}/status?fieldManager=kubelet"
    objects.send("PATCH", path, {"status": {"conditions": [condition]}}, "application/strategic-merge-patch+json")


def _change_pod(objects: Objects, number: int, pods: int) -> None:
    body = {"metadata": {"annotations": {"changed": str(number)}}}
    objects.send("PATCH", f"/api/v1/namespaces/default/pods/pod-{number * 7 % pods}", body, MERGE)


@contextlib.contextmanager
def _repeating(server: PlainApiServer, rate: float, change: Callable[[Objects, int], None]) -> Iterator[None]:
    """Make so many changes in a second meanwhile."""
    stop = threading.Event()

    def run() -> None:
        objects, number, due = Objects(server), 0, time.monotonic()
        while rate and not stop.is_set():
            change(objects, number)
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
    parser.add_argument("--nodes", type=int, default=5000, metavar="N", help="default: %(default)s")
    parser.add_argument("--pods", type=int, default=20000, metavar="N", help="tenants' Pods (default: %(default)s)")
    parser.add_argument("--plugins", type=int, default=4900, metavar="N", help="nodes with a plugin at the start")
    sys.exit(run(parser, measure))
