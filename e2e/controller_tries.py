"""What somebody with the controller's token could try: requests as values, for any API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from e2e.add_on import EPC

NODES = "/api/v1/nodes"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
PLAIN = "application/json"
FORCED = "?fieldManager=x&force=true"
TOO_MUCH = "too-much"
"""The name of `everything_on_nodes`."""


@dataclass(frozen=True, slots=True)
class Try:
    """A request.

    Args:
        path: with its query.
        body: JSON; None for no body.
        method: of HTTP.
        content_type: of the body.
    """

    path: str
    body: object = None
    method: str = "PATCH"
    content_type: str = MERGE

    def sent(self, client: httpx2.Client) -> httpx2.Response:
        """Return the API server's answer."""
        content = None if self.body is None else json.dumps(self.body)
        return client.request(self.method, self.path, content=content, headers={"Content-Type": self.content_type})


def amounts(capacity: object, allocatable: object = None) -> dict[str, Any]:
    """Return a change of a node's status."""
    return {"status": {"capacity": capacity} | ({"allocatable": allocatable} if allocatable else {})}


def other_changes(node: str, maximum_mib: int) -> Mapping[str, Try]:
    """Return patches of a node's status that the policy refuses.

    Args:
        node: its name; it has EPC as capacity, and `sgx.intel.com/enclave`.
        maximum_mib: the most EPC that the controller may give to a node.
    """
    bodies: Mapping[str, object] = {
        "cpu": amounts({"cpu": "8"}),
        "cpu-beside-ours": amounts({"cpu": "8", EPC: "32"}),
        "cpu-removed": amounts({"cpu": None}),
        "gpu": amounts({"nvidia.com/gpu": "1"}),
        "enclaves": amounts({"sgx.intel.com/enclave": "1"}),
        "enclaves-removed": amounts({"sgx.intel.com/enclave": None}),
        "no-capacity": amounts(None),
        "no-status": {"status": None},
        "allocatable-cpu": {"status": {"allocatable": {"cpu": "8"}}},
        "allocatable-gpu": {"status": {"allocatable": {"nvidia.com/gpu": "1"}}},
        "no-allocatable": {"status": {"allocatable": None}},
        "zero": amounts({EPC: "0"}),
        "zero-allocatable": {"status": {"allocatable": {EPC: "0"}}},
        "too-much": amounts({EPC: str(maximum_mib + 1)}),
        "too-much-allocatable": {"status": {"allocatable": {EPC: "1Ti"}}},
        "condition": {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "x"}]}},
        "addresses": {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}},
        "endpoints": {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}},
        "node-info": {"status": {"nodeInfo": {"kernelVersion": "x"}}},
        "images": {"status": {"images": [{"names": ["x"], "sizeBytes": 1}]}},
        "volumes-attached": {"status": {"volumesAttached": [{"name": "x", "devicePath": "x"}]}},
        "volumes-in-use": {"status": {"volumesInUse": ["x"]}},
        "phase": {"status": {"phase": "Running"}},
        "features": {"status": {"features": {"supplementalGroupsPolicy": False}}},
        "runtime-handlers": {"status": {"runtimeHandlers": [{"name": "x"}]}},
        "declared-features": {"status": {"declaredFeatures": ["X"]}},
        "labels": {"metadata": {"labels": {"x": "y"}}},
        "annotations": {"metadata": {"annotations": {"x": "y"}}},
        "finalizers": {"metadata": {"finalizers": ["example.com/x"]}},
        "owners": {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "x"}]}},
    }
    return {name: Try(f"{NODES}/{node}/status", body) for name, body in bodies.items()}


def other_ways(node: Mapping[str, Any]) -> Mapping[str, Try]:
    """Return requests about nodes that are no patch of a status, or one in another way; the policy refuses them.

    Args:
        node: as the API server has it.
    """
    name, metadata = node["metadata"]["name"], node["metadata"]
    path, status = f"{NODES}/{name}", f"{NODES}/{name}/status"
    applied = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    labelled = {"metadata": {"name": name, "labels": {"x": "y"}}}
    return {
        "label": Try(path, {"metadata": {"labels": {"x": "y"}}}),
        "taint": Try(path, {"spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}),
        "put": Try(status, {**node, "metadata": {**metadata, "labels": {}, "resourceVersion": ""}}, "PUT", PLAIN),
        "apply-cpu": Try(status + FORCED, applied | amounts({"cpu": "8"}), content_type=APPLY),
        "apply-label": Try(path + FORCED, applied | labelled, content_type=APPLY),
        "create": Try(NODES, {"metadata": {"name": "n2"}}, "POST", PLAIN),
        "delete": Try(path, method="DELETE"),
        "delete-all": Try(NODES, method="DELETE"),
        "proxy": Try(f"{path}/proxy/pods", method="GET"),
        "dry-run": Try(f"{status}?dryRun=All", amounts({"cpu": "8"})),
    }


def own_changes(node: str, maximum_mib: int) -> Mapping[str, Try]:
    """Return patches of the ledger's key, which are accepted; the last one removes it."""
    status, key = f"{NODES}/{node}/status", EPC.replace("/", "~1")
    applied = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
    replaced = [{"op": "replace", "path": f"/status/capacity/{key}", "value": "12"}]
    return {
        "merge": Try(status, amounts({EPC: "10"}, {EPC: "10"})),
        "strategic": Try(status, amounts({EPC: "11"}), content_type=STRATEGIC),
        "json-patch": Try(status, replaced, content_type=JSON_PATCH),
        "apply": Try(status + FORCED, applied | amounts({EPC: "13"}), content_type=APPLY),
        "maximum": Try(status, amounts({EPC: str(maximum_mib)}, {EPC: str(maximum_mib)})),
        "remove": Try(status, amounts({EPC: None}, {EPC: None})),
    }


def everything_on_nodes(user: str) -> dict[str, object]:
    """Return a role and its binding that give a user all rights on nodes, so that only the policy confines it."""
    group = "rbac.authorization.k8s.io"
    named = {"apiVersion": f"{group}/v1", "metadata": {"name": TOO_MUCH}}
    # RBAC has no nodes/*.
    rules = [{"apiGroups": [""], "resources": ["nodes", "nodes/status", "nodes/proxy"], "verbs": ["*"]}]
    role = {**named, "kind": "ClusterRole", "rules": rules}
    to = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": TOO_MUCH}}
    binding = {
        **named,
        "kind": "ClusterRoleBinding",
        **to,
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}],
    }
    return {"apiVersion": "v1", "kind": "List", "items": [role, binding]}
