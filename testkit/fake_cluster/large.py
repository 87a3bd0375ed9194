"""A cluster of many nodes and pods."""

import copy

from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, HARDWARE, HELPER_EPC, PROVISION, SYSTEM

OFFERED = {EPC: 162, ENCLAVE: 1024, HELPER_EPC: 6, PROVISION: 1024}
REVISION = {"controller-revision-hash": "1"}
SILENT = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}


def name(number):
    return f"aks-sgxpool-31415926-vmss{number:06}"


def daemon(component, number, status=None):
    limits = {HELPER_EPC: 3, PROVISION: 1} if component == "quote-helper" else {}
    return make.pod(
        f"confcom-{component}-{number:05}",
        namespace=SYSTEM,
        on=name(number),
        owner=("DaemonSet", f"confcom-{component}"),
        labels=make.labels(component) | REVISION,
        image=f"registry.test/confcom/{component}:0.1.0",
        limits=limits,
        status=status,
    )


def daemon_set(component, nodes):
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "updatedNumberScheduled", "numberAvailable")
    return make.daemon_set(component, HARDWARE, args=()) | {
        "status": dict.fromkeys(counts, nodes) | {"observedGeneration": 1}
    }


def crashing(number):
    """Each a little different, as those that fail for one reason are."""
    message = f"back-off {number % 5}m0s restarting failed container=main pod=confcom-quote-helper-{number:05}"
    ended = {"exitCode": 6, "message": "Error: the state cannot be read\n  why: it is damaged\n  do:  remove it"}
    return make.waiting("CrashLoopBackOff", message, ended=ended, restarts=3 + number % 7)


def cluster(nodes, tenants, *, silent=0, failing=0, waiting=0):
    """Its objects.

    Args:
        nodes: how many, all with SGX.
        tenants: pods with EPC, more of them on nodes than there are nodes.
        silent: nodes whose kubelet has stopped reporting, the first ones.
        failing: nodes whose quote helper crashes, the next ones.
        waiting: tenants that find no room beside those that run.
    """
    found = [daemon_set(component, nodes) for component in ("device-plugin", "quote-helper")]
    for number in range(nodes):
        node = make.node(name(number), HARDWARE, resources=OFFERED)
        status = None
        if number < silent:
            node["status"]["conditions"] = [SILENT]
            node["status"]["allocatable"] |= dict.fromkeys(OFFERED, "0")
            status = make.not_ready()
        helper = crashing(number) if silent <= number < silent + failing else status
        found += [node, daemon("device-plugin", number, status), daemon("quote-helper", number, helper)]
    message = f"0/{nodes} nodes are available: {nodes} Insufficient {EPC}. preemption: 0/{nodes} nodes are available"
    for number in range(tenants):
        pending = number < waiting
        owner = ("ReplicaSet", f"web-{number % 50}")
        limits = {EPC: 140 if pending else 40}
        where = "" if pending else name(number % nodes)
        status = make.unschedulable(message) if pending else None
        found.append(make.pod(f"web-{number:05}", on=where, owner=owner, limits=limits, status=copy.deepcopy(status)))
    return found
