"""Nodes and Pods as the API server gives them to the controller, and the controller's client beside such a server."""

from lightkube import KubeConfig
from lightkube.config.models import Cluster, User

from confcom.controller.api_server.cluster_api import ClusterApi, client_of
from confcom.controller.reconcile.reading import MANAGER, Release

EPC = "example.com/epc"
RELEASE = Release("confcom-system", "confcom")
NODE = "n"
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"insecure-skip-tls-verify": True}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


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


def api_of(transport, server="http://api.test"):
    """The API server that a transport of httpx2 plays."""
    config = KubeConfig.from_one(cluster=Cluster(server=server), user=User()).get()
    return ClusterApi(client_of(config, transport), (EPC,))
