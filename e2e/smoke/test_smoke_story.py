"""The story on real Kubernetes: our chart, the demo's examples, the quote verified outside."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from confcom.errors import UnavailableError
from confcom.playground.demo.context import examples_folder
from e2e.add_on import EPC, EPC_MIB, SYSTEM, allocatable, install, names, uninstall
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.images_workshop import references
from e2e.waiting import until

SECRET = f"secrets/{SYSTEM}/confcom-simulated-platform"
ROOT = {SECRET, f"configmaps/{SYSTEM}/confcom-simulated-root"}
"""What an uninstall leaves: the simulated root's seed, and its fingerprint, which goes when the Secret goes."""
PLACEHOLDER = "0" * 64
QUOTE_PREFIX = "quote: "


def api_objects(cluster: Cluster) -> set[str]:
    """Every object of the API, events and leases excepted: they come and go by themselves."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
    wanted = [kind for kind in kinds if kind.partition(".")[0] not in {"events", "leases"}]
    columns = "--output=custom-columns=NS:.metadata.namespace,NAME:.metadata.name"
    found = set()
    for kind in wanted:
        listed = cluster.kubectl("get", kind, "--all-namespaces", columns, "--no-headers").stdout
        found |= {f"{kind}/{'/'.join(line.split())}" for line in listed.splitlines()}
    return found


def example(name: str) -> str:
    """An example manifest, as it is."""
    return (examples_folder() / name).read_text()


def apply(cluster: Cluster, namespace: str, manifest: str) -> None:
    """Create what a manifest names."""
    cluster.kubectl("apply", f"--namespace={namespace}", "--filename=-", input=manifest)


def pod_of(cluster: Cluster, namespace: str, job: str) -> dict[str, Any]:
    """A Job's only pod."""
    found = cluster.kubectl_json("get", "pods", f"--namespace={namespace}", f"--selector=job-name={job}")["items"]
    assert len(found) == 1
    pod: dict[str, Any] = found[0]
    return pod


def log_of(cluster: Cluster, namespace: str, job: str) -> str:
    """What a Job's container has printed so far."""
    return cluster.kubectl("logs", f"--namespace={namespace}", f"job/{job}").stdout


def quote_from_log(cluster: Cluster, namespace: str, job: str) -> bytes:
    """The quote that a Job's container printed."""
    (line,) = [line for line in log_of(cluster, namespace, job).splitlines() if line.startswith(QUOTE_PREFIX)]
    return base64.b64decode(line.removeprefix(QUOTE_PREFIX), validate=True)


def test_the_node_offers_its_epc_and_both_daemons_are_ready(installed: Cluster) -> None:
    for daemon in ("confcom-device-plugin", "confcom-quote-helper"):
        status = installed.kubectl_json("get", "daemonset", daemon, f"--namespace={SYSTEM}")["status"]
        assert (status["desiredNumberScheduled"], status["numberReady"]) == (1, 1)
    node = installed.kubectl_json("get", "node", NODE_NAME)["status"]
    assert (node["capacity"][EPC], node["allocatable"][EPC]) == (EPC_MIB, EPC_MIB)


def test_the_seeds_job_completes_and_its_quote_is_verified_outside(
    installed: Cluster, namespace: str, tmp_path: Path
) -> None:
    challenge = secrets.token_hex(32)
    apply(installed, namespace, example("job.yaml").replace(PLACEHOLDER, challenge))
    installed.kubectl("wait", f"--namespace={namespace}", "--for=condition=Complete", "job/sgx-test", "--timeout=60s")

    (tmp_path / "q.bin").write_bytes(quote_from_log(installed, namespace, "sgx-test"))
    confcom = [sys.executable, "-m", "confcom"]
    installed.run([*confcom, "simulation", "export", f"--namespace={SYSTEM}", str(tmp_path / "trust")])
    identity = subprocess.run(
        [sys.executable, "-m", "confcom.sample_workload", "--print-identity"], capture_output=True, check=True
    )
    policy = ["--mrenclave", json.loads(identity.stdout)["mr_enclave"], "--report-data", challenge, "--allow-simulated"]
    trust = ["--root", str(tmp_path / "trust" / "root.pem"), "--collateral", str(tmp_path / "trust" / "collateral")]
    command = [*confcom, "verify", str(tmp_path / "q.bin"), *trust, *policy, "--output", "json"]
    verdict = subprocess.run(command, capture_output=True, text=True, check=False)

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert json.loads(verdict.stdout)["platform"] == "simulated"


def test_what_does_not_fit_waits_with_the_schedulers_reason_and_runs_when_there_is_room(
    installed: Cluster, namespace: str
) -> None:
    here = f"--namespace={namespace}"
    apply(installed, namespace, example("job-holding.yaml"))
    until(lambda: QUOTE_PREFIX in log_of(installed, namespace, "sgx-holding"), "the holding Job has its quote")
    apply(installed, namespace, example("job-large.yaml"))

    def reason() -> str:
        conditions = pod_of(installed, namespace, "sgx-large")["status"].get("conditions", [])
        return next((c["message"] for c in conditions if c["reason"] == "Unschedulable"), "")

    message = until(reason, "the scheduler has looked at the large Job")
    assert f"Insufficient {EPC}" in message
    assert pod_of(installed, namespace, "sgx-large")["status"]["phase"] == "Pending"

    installed.kubectl("delete", here, "job", "sgx-holding")

    installed.kubectl("wait", here, "--for=condition=Complete", "job/sgx-large", "--timeout=60s")


def test_without_the_resource_there_is_no_device_node(installed: Cluster, namespace: str) -> None:
    here = f"--namespace={namespace}"
    look = "import os; print(sorted(n for n in os.listdir('/dev') if 'sgx' in n))"
    container = {
        "name": "main",
        "image": references("sample-workload")[1],
        "imagePullPolicy": "Never",
        "command": ["python", "-c", look],
    }
    for name, resources in (("without", {}), ("with", {"limits": {EPC: 1}})):
        spec = {"containers": [{**container, "resources": resources}], "restartPolicy": "Never"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        apply(installed, namespace, json.dumps(pod))
        done = "--for=jsonpath={.status.phase}=Succeeded"
        installed.kubectl("wait", here, done, f"pod/{name}", "--timeout=60s")
    assert installed.kubectl("logs", here, "without").stdout.strip() == "[]"
    assert installed.kubectl("logs", here, "with").stdout.strip() == "['sgx', 'sgx_enclave']"


def test_a_restarted_kubelet_has_its_epc_back_and_running_pods_live(installed: Cluster, namespace: str) -> None:
    here = f"--namespace={namespace}"
    apply(installed, namespace, example("job-holding.yaml"))
    until(lambda: QUOTE_PREFIX in log_of(installed, namespace, "sgx-holding"), "the holding Job has its quote")
    before = pod_of(installed, namespace, "sgx-holding")

    installed.kubelet_restart()

    until(lambda: allocatable(installed) == EPC_MIB, "the node offers its EPC again")
    apply(installed, namespace, example("job.yaml"))
    installed.kubectl("wait", here, "--for=condition=Complete", "job/sgx-test", "--timeout=60s")
    after = pod_of(installed, namespace, "sgx-holding")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    (container,) = after["status"]["containerStatuses"]
    assert (container["restartCount"], list(container["state"])) == (0, ["running"])


def test_uninstall_leaves_nothing_but_the_root(cluster: Cluster) -> None:
    uninstall(cluster)
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    until(lambda: "kube-root-ca.crt" in names(cluster, "configmaps", SYSTEM), "the namespace is complete")
    before = api_objects(cluster) - ROOT
    install(cluster)

    uninstall(cluster)

    def only_the_root_is_left() -> bool:
        left = api_objects(cluster) - before
        if left != ROOT:
            raise UnavailableError(f"left is {', '.join(sorted(left)) or 'nothing'}")
        return True

    until(only_the_root_is_left, "nothing is left but the root")
    # What the kubelet keeps by itself: the resources' names, at 0 once it has noticed.
    until(lambda: allocatable(cluster) == "0", "the node offers no EPC any more")
    install(cluster)
    assert (
        "platform.json"
        in cluster.kubectl_json("get", SECRET.replace(f"/{SYSTEM}", ""), f"--namespace={SYSTEM}")["data"]
    )
