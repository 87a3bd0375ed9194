"""Nodes and Pods as the API server gives them to the controller."""

from confcom.controller.reconcile.reading import MANAGER, Release

EPC = "example.com/epc"
RELEASE = Release("confcom-system", "confcom")
NODE = "n"


def node(capacity, allocatable=None, *, manager="kubelet", version="1"):
    """A node whose capacity `manager` wrote last; allocatable is the same unless it is given."""
    fields = {"f:status": {"f:capacity": {f"f:{key}": {} for key in capacity}}}
    return {
        "metadata": {
            "name": NODE,
            "uid": "u",
            "resourceVersion": version,
            "managedFields": [{"manager": manager, "subresource": "status", "fieldsV1": fields}],
        },
        "status": {"capacity": capacity, "allocatable": dict(capacity) if allocatable is None else allocatable},
    }


def written(mib, **more):
    """A node whose EPC the controller wrote."""
    return node({EPC: mib}, manager=MANAGER, **more)


def pod(limits=None, name="t", *, namespace="tenant", on=NODE, phase="Running", accepted=True):
    """A Pod of one container, which its kubelet has accepted or not."""
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}"},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"limits": limits or {}}}]},
        "status": {"phase": phase} | ({"startTime": "2026-11-28T10:00:00Z"} if accepted else {}),
    }


def plugin_pod(name="p", *, namespace=RELEASE.namespace, owner="DaemonSet", labels=(), phase="Running", **status):
    """A device plugin's Pod; `labels` are those of app.kubernetes.io that differ, and `status` what it has more."""
    named = {"name": "confcom", "instance": RELEASE.name, "component": "device-plugin"} | dict(labels)
    found = pod(name=name, namespace=namespace, phase=phase)
    found["metadata"] |= {
        "creationTimestamp": "2026-11-28T10:00:00Z",
        "labels": {f"app.kubernetes.io/{key}": value for key, value in named.items()},
        "ownerReferences": [{"kind": owner, "controller": True}],
    }
    found["status"] |= {"podIP": "10.0.0.7"} | status
    return found
