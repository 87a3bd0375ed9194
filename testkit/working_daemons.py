import base64
import hashlib
import json
from functools import cache

from confcom.kubernetes.node import Node
from confcom.kubernetes.workload import Workload
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from testkit import cluster_objects as make

NEWEST = "2026-11-29T09:00:00Z"
_OFFERED = {"--epc-resource": "162", "--enclave-resource": "1024", "--provision-resource": "1024"}
_OFFERED |= {"--helper-resource": "6"}
"""Amounts that a device plugin offers, keyed by the flag that names the resource."""


_ROOT = 'confcom_quote_helper_simulated_root_info{sha256="%s"} 1\n'


def settle(api, broken=()):
    """Act like controllers, kubelets and daemons. `broken` maps images to statuses; older Pods then stay."""
    for daemon in api.find("DaemonSet"):
        parsed = Workload.parse(daemon)
        nodes = [one for one in api.find("Node") if parsed.selection.selects(Node.parse(one))]
        counts = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable")
        daemon["status"] = dict.fromkeys((*counts, "numberReady"), len(nodes))
        _roll(api, daemon, [one["metadata"]["name"] for one in nodes], dict(broken))
        for node in nodes:
            offered = {parsed.flag(flag): amount for flag, amount in _OFFERED.items() if parsed.flag(flag)}
            for part in ("capacity", "allocatable"):
                node.setdefault("status", {}).setdefault(part, {}).update(offered)
    for one in api.find("Deployment"):
        one["status"] = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas", "availableReplicas"), 1)
        _roll(api, one, ["node-of-the-controller"], {})


def _roll(api, workload, nodes, broken):
    metadata, template = workload["metadata"], workload["spec"]["template"]
    workload["status"]["observedGeneration"] = metadata.get("generation", 1)
    owner = {"kind": workload["kind"], "name": metadata["name"], "controller": True}
    revision = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
    image = template["spec"]["containers"][0]["image"]
    label = {"controller-revision-hash": revision}
    where = {"namespace": metadata["namespace"], "ownerReferences": [owner]}
    number = 1
    if workload["kind"] == "DaemonSet":
        named = {"name": f"{metadata['name']}-{revision}", "labels": label}
        others = [one for one in api.find("ControllerRevision") if one["metadata"]["name"] != named["name"]]
        number = max((one["revision"] for one in others), default=0) + 1
        api.put({"kind": "ControllerRevision", "metadata": where | named, "revision": number})
    for pod in api.find("Pod", None, metadata["namespace"]):
        is_older = pod["metadata"]["labels"].get("controller-revision-hash") != revision
        if pod["metadata"].get("ownerReferences") == [owner] and not (image in broken and is_older):
            api.remove("Pod", pod["metadata"]["name"], metadata["namespace"])
    for node in nodes:
        named = {"name": f"{metadata['name']}-{node}-{revision[:5]}", "labels": template["metadata"]["labels"] | label}
        named |= {"uid": f"uid-{metadata['name']}-{node}-{revision}", "creationTimestamp": f"{NEWEST[:-3]}{number:02}Z"}
        spec = template["spec"] | {"nodeName": node}
        status = broken.get(image) or _ready(spec)
        api.put({"kind": "Pod", "metadata": where | named, "spec": spec, "status": status})
        if "device-plugin" in metadata["name"]:
            api.pages[named["name"], "inventory"] = make.inventory().to_json().decode()
        elif secret := api.find("Secret", None, metadata["namespace"]):
            api.pages[named["name"], "metrics"] = _ROOT % _root_of(json.dumps(secret[0]["data"]))


@cache
def _root_of(data):
    values = {key: base64.b64decode(value) for key, value in json.loads(data).items()}
    return SimulatedPlatform.of_root(RootSeed.decode(values)).root_fingerprint


def _ready(spec):
    def state(container, **more):
        running = {"state": {"running": {"startedAt": NEWEST}}, "restartCount": 0, "ready": True}
        return {"name": container["name"], **running, **more}

    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [state(one) for one in spec["containers"]],
        "initContainerStatuses": [state(one) for one in spec.get("initContainers", ())],
    }
