"""Objects as the API server gives them, as far as the add-on looks at them."""

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
ENCLAVE = "sgx.intel.com/enclave"
PROVISION = "sgx.intel.com/provision"
HELPER_EPC = "confcom.internal/quote_helper_epc_mem_in_MiB"
SIMULATED = {"confcom.internal/simulated-sgx": "true"}
HARDWARE = {"feature.node.kubernetes.io/cpu-security.sgx.enabled": "true"}
SYSTEM = "confcom-system"
AESMD = "aesmd"
"""The sidecar of hardware quote helpers."""


def name_of(one):
    return one["kind"], one["metadata"]["name"]


def plural_of(one):
    kind = one["kind"].lower()
    return f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"


class Counted(dict):
    """An object that counts how often it is read."""

    reads = 0

    def get(self, key, default=None):
        self.reads += 1
        return super().get(key, default)


def node(name, labels=(), *, resources=(), taints=(), annotations=(), ready=True):
    kept = {"cpu": "2"} | {key: str(value) for key, value in dict(resources).items()}
    condition = {"type": "Ready", "status": "True" if ready else "Unknown", "message": "" if ready else "silent"}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels), "annotations": dict(annotations)},
        "spec": {"taints": list(taints)},
        "status": {"capacity": dict(kept), "allocatable": dict(kept), "conditions": [condition]},
    }


def labels(component, instance="confcom"):
    return {
        "app.kubernetes.io/name": "confcom",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/version": "0.1.0",
    }


def daemon_set(component, selector=SIMULATED, *, args=("--simulated",), namespace=SYSTEM, image="", limits=(), **more):
    container = {"name": component.removesuffix("-simulated"), "image": image or f"confcom/{component}:0.1.0"}
    container |= {"args": list(args), "resources": {"limits": dict(limits)}}
    pod = {"nodeSelector": dict(selector), "containers": [container]} | more
    metadata = {"name": f"confcom-{component}", "namespace": namespace, "labels": labels(component), "generation": 1}
    spec = {"template": {"metadata": {"labels": labels(component)}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec, "status": {}}


def pod(name, *, namespace="default", on="", owner=None, limits=(), status=None, labels=(), image="app:1", uid=""):
    container = {"name": "main", "image": image, "resources": {"limits": dict(limits)}}
    spec = {"nodeName": on, "containers": [container]}
    made = controller("Pod", name, owner=owner, spec=spec, status=status or running(), namespace=namespace)
    made["metadata"] |= {"uid": uid or f"uid-{name}", "labels": dict(labels)}
    return made


STARTED = "2026-11-24T12:31:00Z"


def running(status=None):
    """Ready; a container that runs already, by the status before, has started then."""
    container = (status or {}).get("containerStatuses", [{}])[0]
    started = container.get("state", {}).get("running", {}).get("startedAt", STARTED)
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"state": {"running": {"startedAt": started}}, "restartCount": 0}],
    }


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


def failed_create(kind, name, message, *, namespace="default", at="2026-11-25T00:00:00Z"):
    """A controller's event about a Pod that it cannot create."""
    made = event(name, "FailedCreate", f"Error creating: {message}", at)
    made["metadata"]["namespace"] = namespace
    made["involvedObject"] |= {"kind": kind, "namespace": namespace}
    return made


def controller(kind, name, *, owner=None, spec=(), status=(), namespace="default"):
    references = [{"kind": owner[0], "name": owner[1], "controller": True}] if owner else []
    metadata = {"name": name, "namespace": namespace, "ownerReferences": references}
    return {"kind": kind, "metadata": metadata, "spec": dict(spec), "status": dict(status)}


def failed_hook(name, reason, message, *, namespace=SYSTEM, labels=None):
    ours = {"app.kubernetes.io/name": "confcom", "app.kubernetes.io/component": "simulated-root"}
    failed = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    metadata = {"name": name, "namespace": namespace, "labels": ours if labels is None else labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "status": {"conditions": [failed]}}
