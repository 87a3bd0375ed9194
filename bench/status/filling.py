"""Fills an API server with the add-on's release, nodes, and Pods, all of a real cluster's size."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.controller.__main__ import in_parallel, make_node, make_pod
from e2e.plain_api_server import PlainApiServer
from e2e.plain_controller import EPC, MERGE, RELEASE, SYSTEM, Objects, Plugins

ROOT = Path(__file__).resolve().parent.parent.parent
REGISTRY = "registry.test"
OFFERED_MIB, FOUND_MIB = 162, 168
DAEMONS = ("device-plugin", "quote-helper")
PADDING = "x" * 3000
"""Managed fields, volumes and conditions make a daemon's Pod so much larger than its template."""
AMOUNTS = {
    "cpu": "4",
    "memory": "8Gi",
    "pods": "110",
    EPC: str(OFFERED_MIB),
    "sgx.intel.com/enclave": "1024",
    "sgx.intel.com/provision": "1024",
    "confcom.internal/quote_helper_epc_mem_in_MiB": "6",
}


def install_chart(server: PlainApiServer) -> None:
    """Have helm install the chart, without its hooks: nobody would run their Job."""
    server.kubectl("create", "namespace", SYSTEM)
    server.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=privileged")
    command = [str(server.tools.path("helm")), "install", RELEASE, str(ROOT / "charts" / "confcom"), "--no-hooks"]
    command += [f"--namespace={SYSTEM}", "--set=simulated.enabled=true", f"--set=image.registry={REGISTRY}"]
    environment = os.environ | {"KUBECONFIG": str(server.kubeconfig())}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


def fill(server: PlainApiServer, plugins: Plugins, nodes: int, pods: int) -> None:
    """Make the nodes, each with both daemons, and other Pods, so that there are so many in all."""
    plugins.document = json.dumps(
        {
            "version": 1,
            "epc": {"mib": FOUND_MIB},
            "accounting": {
                "kind": "device",
                "resource": EPC,
                "advertised_mib": OFFERED_MIB,
                "held_back_mib": 0,
                "choice": "fits-devices",
                "reason": "162 MiB fit the kubelet's devices",
            },
            "resources": [{"name": EPC}],
        }
    ).encode()
    objects = Objects(server)
    apps = f"/apis/apps/v1/namespaces/{SYSTEM}"
    daemons = {name: objects.send("GET", f"{apps}/daemonsets/confcom-{name}") for name in DAEMONS}
    for daemon in daemons.values():
        counts = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        status = dict.fromkeys((*counts, "numberReady"), nodes) | {"numberMisscheduled": 0, "observedGeneration": 1}
        objects.send("PATCH", f"{apps}/daemonsets/{daemon['metadata']['name']}/status", {"status": status}, MERGE)
    _say(f"{nodes} nodes")
    in_parallel(server, _node, range(nodes))
    _say(f"{2 * nodes} Pods of daemons")
    for name, daemon in daemons.items():
        made = _pod_of(name, daemon)
        in_parallel(server, lambda some, n, made=made: _daemon(some, made, n, plugins.address), range(nodes))
    _say(f"{pods - 2 * nodes} other Pods")
    in_parallel(server, lambda some, number: make_pod(some, number, nodes), range(max(0, pods - 2 * nodes)))


def _node(objects: Objects, number: int) -> None:
    make_node(objects, number)
    ready = [
        {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
    ]
    objects.set_status(f"node-{number}", {"capacity": AMOUNTS, "allocatable": AMOUNTS, "conditions": ready})


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


def _daemon(objects: Objects, made: dict[str, Any], number: int, address: str) -> None:
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


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")
