"""A cluster of a thousand nodes and four thousand pods, and what the real command makes of it.

As a program (python -m testkit.fake_cluster.large) it runs `confcom status` as a process, with a kubectl and a
helm that print these objects, and tells lines, seconds of CPU and peak memory.
"""

import copy
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import ENCLAVE, EPC, HARDWARE, HELPER_EPC, PROVISION, SYSTEM

NODES, TENANTS = 1000, 2000
OFFERED = {EPC: 162, ENCLAVE: 1024, HELPER_EPC: 6, PROVISION: 1024}
REVISION = {"controller-revision-hash": "1"}
SILENT = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
WEIGHT = 4000
"""Bytes that each object has beside what is looked at, as real ones do."""
PROGRAM = """#!/bin/sh
case "$0 $*" in
  *helm*history*) cat {folder}/history;;
  *helm*manifest*) ;;
  *nodes,daemonsets*) cat {folder}/everything;;
  *current-context*) echo large;;
  *events*|*get*) echo '{{"kind": "List", "items": []}}';;
esac
"""


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


def cluster(nodes=NODES, tenants=TENANTS, *, silent=0, failing=0, waiting=0):
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


def measure(objects, *options):
    """What the command printed, its seconds of CPU, and the peak MiB of it and of those before it."""
    heavy = [one | {"metadata": one["metadata"] | {"annotations": {"a": "x" * WEIGHT}}} for one in objects]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "everything").write_text(json.dumps({"kind": "List", "items": heavy}))
        Path(folder, "history").write_text('[{"revision": 1, "status": "deployed", "description": ""}]')
        for program in ("kubectl", "helm"):
            Path(folder, program).write_text(PROGRAM.format(folder=folder))
            Path(folder, program).chmod(0o755)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "confcom", "status", *options],
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss / 1024


if __name__ == "__main__":
    CASES = {
        "well": cluster(),
        "half": cluster(silent=250, failing=250, waiting=1000),
        "all": cluster(silent=500, failing=500, waiting=1000),
    }
    for case, objects in CASES.items():
        done, seconds, peak = measure(objects, *sys.argv[1:])
        size = len(done.stdout)
        sys.stdout.write(
            f"{case:5} {len(done.stdout.splitlines()):5} lines {size:8} bytes {seconds:5.1f} s {peak:5.0f} MiB\n"
        )
        if size < 20_000:
            sys.stdout.write(done.stdout + done.stderr)
