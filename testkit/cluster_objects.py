import base64

from confcom.kubernetes.epc_accounting import AccountingKind
from confcom.kubernetes.inventory import EpcOffer, FoundEpc, Inventory
from confcom.simulation.root_seed import RootSeed

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"
HELPER_EPC = "confcom.internal/quote_helper_epc_mem_in_MiB"
SIMULATED = {"confcom.internal/simulated-sgx": "true"}
HARDWARE = {"feature.node.kubernetes.io/cpu-security.sgx.enabled": "true"}
SYSTEM = "confcom-system"
REVISION = "controller-revision-hash"
NOW = "2026-11-29T09:30:00Z"
CREATED = "2026-11-25T00:00:00Z"
CREATED_ROOT = 1_767_225_600
"""Creation time of the test root: the first second of 2026."""
AESMD = "aesmd"
"""Container name of the sidecar in quote helper Pods on hardware."""


def node(name, labels=(), *, resources=(), taints=(), annotations=(), ready=True):
    kept = {"cpu": "2"} | {key: str(value) for key, value in dict(resources).items()}
    condition = {"type": "Ready", "status": "True" if ready else "Unknown", "message": "" if ready else "silent"}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels), "annotations": dict(annotations)},
        "spec": {"taints": list(taints)},
        "status": {"capacity": dict(kept), "allocatable": dict(kept), "conditions": [condition]},
    }


def inventory(found=168, offered=162, *, kind="device", choice="fits-devices", **amounts):
    """The inventory page of a device plugin; `amounts` sets additional fields of EpcOffer."""
    offer = EpcOffer(AccountingKind(kind), EPC, choice, offered, reason="why", **amounts)
    return Inventory("simulated", True, FoundEpc("simulated", "", mib=found), offer, {}, ())


def root_secret(name="confcom-simulated-root", *, seed=bytes(32), created=CREATED_ROOT):
    """A Secret with a simulated root, like the Secret that `confcom enable` makes."""
    data = {key: base64.b64encode(value).decode() for key, value in RootSeed(seed, created).encode().items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SYSTEM}, "data": data}


def writes_of(names, manager="confcom-controller"):
    """The managed-fields entry that says which manager wrote these resources in a node's capacity."""
    fields = {"f:status": {"f:capacity": {f"f:{name}": {} for name in names}}}
    return {"manager": manager, "subresource": "status", "fieldsV1": fields}


def labels(component):
    return {
        "app.kubernetes.io/name": "confcom",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/instance": "confcom",
        "app.kubernetes.io/version": "0.1.0",
    }


def role(name, labels, release=SYSTEM):
    """A ClusterRole with these labels, owned by the helm release in the namespace `release`."""
    annotations = {"meta.helm.sh/release-name": "confcom", "meta.helm.sh/release-namespace": release}
    metadata = {"name": name, "labels": dict(labels), "annotations": annotations}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": []}


def daemon_set(component, selector=SIMULATED, *, args=("--simulated",), namespace=SYSTEM, image="", limits=(), **more):
    container = {"name": component.removesuffix("-simulated"), "image": image or f"confcom/{component}:0.1.0"}
    container |= {"args": list(args), "resources": {"limits": dict(limits)}}
    pod = {"nodeSelector": dict(selector), "containers": [container]} | more
    metadata = {"name": f"confcom-{component}", "namespace": namespace, "labels": labels(component), "generation": 1}
    spec = {"template": {"metadata": {"labels": labels(component)}, "spec": pod}}
    status = {"observedGeneration": 1, "desiredNumberScheduled": 1, "currentNumberScheduled": 1}
    status |= {"updatedNumberScheduled": 1, "numberAvailable": 1}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec, "status": status}


def revision(component, number=1):
    """A DaemonSet's ControllerRevision; the Pods of this revision have the number in their revision label."""
    made = controller("ControllerRevision", f"{component}-{number}", owner=("DaemonSet", f"confcom-{component}"))
    made["metadata"] |= {"labels": {REVISION: str(number)}, "namespace": SYSTEM}
    return made | {"apiVersion": "apps/v1", "revision": number}


def daemon(component, on="a", *, revision="1", name="", created=CREATED, limits=(), **more):
    image = f"confcom/{component}:0.1.0"
    limits = limits or ({PROVISION: 1} if component.startswith("quote-helper") else {})
    made = pod(name or f"{component}-{on}", namespace=SYSTEM, on=on, image=image, limits=limits, **more)
    references = [{"kind": "DaemonSet", "name": f"confcom-{component}", "controller": True}]
    made["metadata"] |= {
        "labels": labels(component) | {REVISION: revision},
        "ownerReferences": references,
        "creationTimestamp": created,
    }
    return made


def installed(*names):
    """Simulated nodes with these names, and the add-on's objects; all nodes and Pods are ready."""
    parts = ("device-plugin", "quote-helper")
    nodes = [node(name, SIMULATED, resources={EPC: 162}) for name in names]
    pods = [daemon(part, name) for name in names for part in parts]
    daemon_sets = [daemon_set(part) for part in parts]
    for one in daemon_sets:
        one["status"] |= {key: len(names) for key in one["status"] if key != "observedGeneration"}
    return [*nodes, *daemon_sets, *map(revision, parts), *pods]


def pod(name, *, namespace="default", on="", owner=None, limits=(), status=None, labels=(), image="app:1", uid=""):
    container = {"name": "main", "image": image, "resources": {"limits": dict(limits)}}
    spec = {"nodeName": on, "containers": [container]}
    made = controller("Pod", name, owner=owner, spec=spec, status=status or running(), namespace=namespace)
    made["metadata"] |= {"uid": uid or f"uid-{name}", "labels": dict(labels)}
    return made


STARTED = "2026-11-24T12:31:00Z"


def running(status=None):
    """The status of a ready Pod. If `status` has a running container, this container keeps its start time."""
    container = (status or {}).get("containerStatuses", [{}])[0]
    started = container.get("state", {}).get("running", {}).get("startedAt", STARTED)
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"state": {"running": {"startedAt": started}}, "restartCount": 0}],
    }


def sidecar(status, **one):
    """Return a Pod's status with the status of its sidecar added."""
    added = {"name": AESMD, "restartCount": 0, "state": {"running": {"startedAt": STARTED}}} | one
    return status | {"initContainerStatuses": [added]}


def not_ready(container="main"):
    message = f"containers with unready status: [{container}]"
    return running() | {"conditions": [{"type": "Ready", "status": "False", "message": message}]}


def waiting(reason, message="", *, ended=None, restarts=0):
    one = {"state": {"waiting": {"reason": reason, "message": message}}, "restartCount": restarts}
    if ended:
        one["lastState"] = {"terminated": ended}
    return {"phase": "Pending", "containerStatuses": [one]}


def unschedulable(message):
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def rejected(message="no healthy devices present", reason="UnexpectedAdmissionError"):
    return {"phase": "Failed", "reason": reason, "message": message}


def event(about, reason, message, at="2026-11-25T00:00:00Z", kind="Warning"):
    return {
        "kind": "Event",
        "metadata": {"name": f"{about}.{reason}", "namespace": SYSTEM, "creationTimestamp": at},
        "involvedObject": {"name": about},
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": at,
    }


def failed_create(kind, name, message, *, namespace="default"):
    made = event(name, "FailedCreate", f"Error creating: {message}")
    made["metadata"]["namespace"] = namespace
    made["involvedObject"] |= {"kind": kind, "namespace": namespace}
    return made


def controller(kind, name, *, owner=None, spec=(), status=(), namespace="default"):
    references = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    metadata = {"name": name, "namespace": namespace, "ownerReferences": references}
    return {"kind": kind, "metadata": metadata, "spec": dict(spec), "status": dict(status)}
