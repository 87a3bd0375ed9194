"""`confcom disable` on the real cluster, whose kubelet keeps a resource for five minutes after its plugin has gone."""

import json
import sys

import pytest

from confcom.playground.examples_folder import examples_folder
from e2e.add_on import EPC, EPC_MIB, SIMULATED_LABEL, SYSTEM, allocatable, install, names, uninstall
from e2e.cluster.addresses import NODE_NAME
from e2e.waiting import until

SLOW_SECONDS = 900
"""For the 5 minutes and what comes before and after."""
SECRET = f"secrets/{SYSTEM}/confcom-simulated-platform"


def confcom(cluster, *arguments):
    done = cluster.run([sys.executable, "-m", "confcom", *arguments], check=False, timeout=SLOW_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def api_objects(cluster):
    """Every object of the API, events and leases excepted: they come and go by themselves."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    columns = "--output=custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
    found = set()
    for kind in kinds:
        if kind.partition(".")[0] not in {"events", "leases"}:
            listed = cluster.kubectl("get", kind, "--all-namespaces", columns, "--no-headers").stdout
            found |= {f"{kind}/{'/'.join(line.split())}" for line in listed.splitlines()}
    return found


def node_keys(cluster):
    """The names of all resources in the node's status."""
    status = cluster.kubectl_json("get", "node", NODE_NAME)["status"]
    return {(part, name) for part in ("capacity", "allocatable") for name in status[part]}


def entries(cluster, folder):
    return set(cluster.run(["ls", folder]).stdout.split())


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
def test_nothing_stays_but_the_roots_secret_and_it_comes_back_the_same(cluster, namespace):
    uninstall(cluster)
    cluster.kubectl("label", "node", NODE_NAME, f"{SIMULATED_LABEL}=true", "--overwrite")
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    until(lambda: "kube-root-ca.crt" in names(cluster, "configmaps", SYSTEM), "the namespace is complete")
    confcom(cluster, "disable")  # whatever earlier cases left of the resources
    plugins = "/var/lib/kubelet/device-plugins"
    objects, keys, sockets = api_objects(cluster) - {SECRET}, node_keys(cluster), entries(cluster, plugins)
    assert not [name for _, name in keys if "sgx" in name]

    confcom(cluster, "enable", "--simulated")
    confcom(cluster, "simulation", "export", f"{cluster.places.folder}/before")
    assert entries(cluster, plugins) - sockets
    assert entries(cluster, "/run/aesmd") == {"aesm.socket"}
    here = f"--namespace={namespace}"
    cluster.kubectl("apply", here, "--filename=-", input=(examples_folder() / "job-holding.yaml").read_text())
    cluster.kubectl("wait", here, "--for=jsonpath={.status.ready}=1", "job/sgx-holding", "--timeout=60s")

    done = confcom(cluster, "disable", "--yes", "--output=json")

    assert f"{namespace}/sgx-holding" in done.stderr
    (kept, *_) = json.loads(done.stdout)["kept"]
    assert SECRET.removeprefix("secrets/") in kept
    theirs = {one for one in api_objects(cluster) if namespace in one}
    assert api_objects(cluster) - theirs == {one for one in objects if namespace not in one} | {SECRET}
    assert node_keys(cluster) == keys
    assert entries(cluster, plugins) == sockets
    assert entries(cluster, "/run/aesmd") == set()
    (pod,) = cluster.kubectl_json("get", "pods", here)["items"]
    assert pod["status"]["phase"] == "Running"

    confcom(cluster, "enable", "--simulated")
    confcom(cluster, "simulation", "export", f"{cluster.places.folder}/after")
    fingerprints = [
        cluster.run(["cat", f"{cluster.places.folder}/{one}/root.sha256"]).stdout for one in ("before", "after")
    ]
    assert fingerprints[0] == fingerprints[1]
    assert allocatable(cluster) == EPC_MIB
    assert ("capacity", EPC) in node_keys(cluster)
    cluster.kubectl("delete", "job", "sgx-holding", here)
    install(cluster)
