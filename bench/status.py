"""`python -m bench.status`: `confcom status`, `confcom tcb` and the checks of `confcom enable` in a large cluster.

The chart is installed by helm in a real API server. No controller and no kubelet runs: nodes and Pods are objects, and
all daemons are one HTTP server. The quote helpers' pages have two groups of SVNs.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.api_objects import in_parallel, make_node, make_pod
from bench.machine import children_of, resident_bytes
from bench.report import Goal, Measured, Section, command_line, run, say
from confcom.sgx.pck.platform_page import CertifiedTcb, PlatformPage, SgxKind
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from e2e.add_on import DAEMONS, EPC, ROOT, SYSTEM
from e2e.plain_api_server import PlainApiServer, serving
from e2e.plain_controller import MERGE, Objects, Plugins, inventory
from testkit.cluster_objects import CREATED_ROOT, root_secret

REGISTRY = "registry.test"
COMMANDS = {
    "status": ["status"],
    "tcb": ["tcb"],
    "preflight": ["enable", "--dry-run", "--simulated", f"--set=image.registry={REGISTRY}"],
}
ROUNDS = 3
NODES, PODS = 5_000, 20_000
GOALS = {
    "status: time": Goal(15.0),
    "status: memory of the command at most": Goal(128.0),
    "tcb: time": Goal(30.0),
    "tcb: memory of the command at most": Goal(300.0),
    "preflight: time": Goal(10.0),
    "preflight: memory of the command at most": Goal(96.0),
}
"""Goals for a cluster of NODES and PODS: 1.5 times the times of an idle machine with two processors, or more."""
SAMPLE_SECONDS = 0.005
"""Seconds between two looks at a command's peak memory, which the kernel records."""
SETTLE_SECONDS = 30.0
"""Seconds for API server and etcd to process thousands of new objects."""
EPC_MIB = 162
PADDING = "x" * 3000
"""Text that makes a daemon's Pod as large as managed fields, volumes and conditions make a real Pod."""
AMOUNTS = {
    EPC: str(EPC_MIB),
    "sgx.intel.com/enclave": "1024",
    "sgx.intel.com/provision": "1024",
    "confcom.internal/quote_helper_epc_mem_in_MiB": "6",
}


def measure(options: argparse.Namespace) -> Measured:
    goals = GOALS if (options.nodes, options.pods) == (NODES, PODS) else {}
    section = Section(f"Commands with {options.nodes} nodes and {options.pods} Pods", ["command"], goals)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), niceness=0) as server,
        Plugins(8080).answering() as plugins,
    ):
        _install_chart(server)
        _fill(server, plugins, options.nodes, options.pods)
        time.sleep(SETTLE_SECONDS)
        for name in COMMANDS:
            for _ in range(ROUNDS):
                say(name)
                _run(section, server, name)
    return [section], {}


def _run(section: Section, server: PlainApiServer, name: str) -> None:
    """Run a command as a user would. `status` exits with 8, since no daemon runs, and `tcb`, for the second group."""
    folders = {str(server.tools.path(program).parent) for program in ("kubectl", "helm")}
    environment = os.environ | {
        "KUBECONFIG": str(server.kubeconfig()),
        "PATH": os.pathsep.join([*folders, os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, "-m", "confcom", *COMMANDS[name], "--output=json"]
    with (server.folder / f"{name}.json").open("wb") as output, (server.folder / f"{name}.err").open("wb") as errors:
        begun, peak, others = time.monotonic(), 0, 0
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=errors)
        while seen := resident_bytes(process.pid, peak=True):  # the loop ends when the process has ended
            peak = seen
            with contextlib.suppress(OSError):  # one has ended
                others = max(others, sum(map(resident_bytes, children_of(process.pid))))
            time.sleep(SAMPLE_SECONDS)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        section.add("command", f"{name}: time", "s", time.monotonic() - begun)
    section.add("command", f"{name}: CPU, with kubectl and helm", "s", usage.ru_utime + usage.ru_stime)
    section.add("command", f"{name}: memory of the command at most", "MiB", peak / 2**20)
    section.add("command", f"{name}: memory of kubectl and helm at most", "MiB", others / 2**20)
    section.add("command", f"{name}: exit code", "", process.returncode)
    if name == "tcb":
        groups = json.loads((server.folder / "tcb.json").read_bytes())["groups"]
        section.add("command", "tcb: nodes of the smallest group", "", min(len(group["names"]) for group in groups))


def _install_chart(server: PlainApiServer) -> None:
    server.kubectl("create", "namespace", SYSTEM)
    server.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=privileged")
    server.helm("install", "--set=simulated.enabled=true", f"--set=image.registry={REGISTRY}")
    server.kubectl("apply", "--filename=-", stdin=json.dumps(root_secret()))


def _fill(server: PlainApiServer, plugins: Plugins, nodes: int, pods: int) -> None:
    """Create the nodes, each with both daemons, and further Pods up to the wanted number of Pods."""
    plugins.document = inventory(EPC_MIB, kind="device")
    plugins.pages["/platform"] = itertools.cycle(_platform_pages())
    objects = Objects(server)
    apps = f"/apis/apps/v1/namespaces/{SYSTEM}"
    daemons = {name: objects.send("GET", f"{apps}/daemonsets/confcom-{name}") for name in DAEMONS}
    for daemon in daemons.values():
        counts = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        status = dict.fromkeys((*counts, "numberReady"), nodes) | {"numberMisscheduled": 0, "observedGeneration": 1}
        objects.send("PATCH", f"{apps}/daemonsets/{daemon['metadata']['name']}/status", {"status": status}, MERGE)
    say(f"{nodes} nodes")
    in_parallel(functools.partial(make_node, objects, more=AMOUNTS), range(nodes))
    say(f"{2 * nodes} Pods of daemons")
    for name, daemon in daemons.items():
        made = _pod_of(name, daemon)
        in_parallel(functools.partial(_daemon, objects, made=made, address=plugins.address), range(nodes))
    say(f"{pods - 2 * nodes} other Pods")
    in_parallel(functools.partial(make_pod, objects, nodes=nodes), range(max(0, pods - 2 * nodes)))


def _platform_pages() -> list[bytes]:
    seed = RootSeed(bytes(32), CREATED_ROOT)
    tcb = CertifiedTcb.of(SimulatedPlatform.of_root(seed).pki.pck.certificate)
    older = replace(tcb, components=(0, *tcb.components[1:]))
    since = datetime.now(UTC)
    return [PlatformPage(SgxKind.SIMULATED, each, since).to_json() for each in (tcb, older)]


def _pod_of(name: str, daemon: dict[str, Any]) -> dict[str, Any]:
    template = copy.deepcopy(daemon["spec"]["template"])
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "controller": True, "blockOwnerDeletion": True}
    owner |= {"name": daemon["metadata"]["name"], "uid": daemon["metadata"]["uid"]}
    metadata = {
        "generateName": f"confcom-{name}-",
        "labels": template["metadata"]["labels"] | {"controller-revision-hash": "1", "pod-template-generation": "1"},
        "annotations": template["metadata"]["annotations"] | {"padding": PADDING},
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, "spec": template["spec"]}


def _daemon(objects: Objects, number: int, *, made: dict[str, Any], address: str) -> None:
    spec = made["spec"] | {"nodeName": f"node-{number}"}
    path = f"/api/v1/namespaces/{SYSTEM}/pods"
    name = objects.send("POST", path, made | {"spec": spec})["metadata"]["name"]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    started = {"ready": True, "started": True, "restartCount": 0, "imageID": "sha256:" + "0" * 64}
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [
            {"name": one["name"], "image": one["image"], "state": {"running": {"startedAt": now}}, **started}
            for one in spec["containers"]
        ],
    }
    objects.send("PATCH", f"{path}/{name}/status", {"status": status}, MERGE)


if __name__ == "__main__":
    parser = command_line("bench.status", __doc__)
    parser.add_argument("--nodes", type=int, default=NODES, metavar="N", help="each with both daemons")
    parser.add_argument("--pods", type=int, default=PODS, metavar="N", help="in all, with those of the daemons")
    sys.exit(run(parser, measure))
