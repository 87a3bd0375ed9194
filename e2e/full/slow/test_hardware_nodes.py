"""Nodes that look like hardware, with the add-on for hardware: the helper relays a sidecar's quotes."""

import json
import time
from dataclasses import dataclass

import pytest

from confcom.relay.self_test import HANG_SECONDS
from e2e.add_on import HELPER, HERE, PLUGIN, allocatable, forget, uninstall
from e2e.cluster import Node
from e2e.confcom_command import SET_ASIDE_MIB, AddOn, uids
from e2e.hardware.aesm_service import FAULT, HANG, OTHER_ROOT
from e2e.hardware.nodes import REPOSITORY, SGX_PRV_GROUP, AesmdImages, import_workload, sgx_hardware
from e2e.images import CHART_REGISTRY
from e2e.load.outcome import Outcome
from e2e.other_image import digest_of, import_other, with_digest
from e2e.relying_party import NO_CHALLENGE, RelyingParty
from e2e.tenants import container, manifest
from e2e.tenants import pod as tenant_pod
from e2e.waiting import until

SMALLEST_NODE_MIB = 28
RATE = 10.0
"""Attestations per second of each of eight clients, as in the case of simulated nodes."""
AROUND_SECONDS = 10.0
NOTICE_SECONDS = 150.0
RESTARTED_SECONDS = HANG_SECONDS + 120.0
"""Seconds after the first hanging call: the deadlines of call and self-test, the probe, the grace period."""
HARDWARE_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
AESMD = "aesmd"
DEVICES = {"sgx.intel.com/enclave": 1, "sgx.intel.com/provision": 1}
LOOK = """
import glob, json, os
found = {}
for path in sorted(glob.glob("/dev/sgx_*")):
    try:
        os.close(os.open(path, os.O_RDWR))
        found[path] = "open"
    except OSError as error:
        found[path] = error.strerror
print(json.dumps(found), flush=True)
"""
"""Program that prints which SGX devices a container has, and whether it can open them."""

pytestmark = [pytest.mark.timeout(1200, func_only=True), pytest.mark.usefixtures("nodes")]


@pytest.fixture(scope="module")
def aesmd_images(cluster, tmp_path_factory):
    return AesmdImages.import_into(cluster, tmp_path_factory.mktemp("aesmd"))


@pytest.fixture(scope="module")
def add_on(cluster, aesmd_images, tmp_path_factory):
    """The add-on on two nodes, by `confcom enable` without --simulated."""
    chosen = cluster.nodes[:2]
    image = {"repository": REPOSITORY, "digest": aesmd_images.first}
    hardware = {"sgxPrvGroup": SGX_PRV_GROUP, "expectedRoot": aesmd_images.root}
    file = tmp_path_factory.mktemp("values") / "values.json"
    file.write_text(json.dumps({"quoteHelper": {**hardware, "aesmd": {"image": image}}}))
    uninstall(cluster)
    for node in chosen:  # kubelets may still have records of ended Pods; a plugin keeps the EPC of these Pods
        forget(cluster, node)
    made = AddOn(cluster, chosen, SMALLEST_NODE_MIB - SET_ASIDE_MIB)
    names = [node.name for node in chosen]
    try:
        with sgx_hardware(chosen, epc_mib=SMALLEST_NODE_MIB):
            cluster.kubectl("label", "node", *names, f"{HARDWARE_LABEL}=true", "--overwrite")
            made.confcom("enable", f"--values={file}", f"--set={CHART_REGISTRY}")
            made.wait_for_epc()
            yield made
            cluster.mend()
            uninstall(cluster)
    finally:
        uninstall(cluster)
        cluster.kubectl("label", "node", *names, f"{HARDWARE_LABEL}-")


@pytest.fixture
def party(aesmd_images):
    return RelyingParty.of_folder(aesmd_images.trust)


def test_the_seeds_job_is_quoted_through_the_relay(cluster, add_on, tenant, party, tmp_path) -> None:
    tenant.create(manifest("seed", import_workload(cluster, tmp_path)))
    tenant.wait_for_job("sgx-test")
    verdict = party.verify(tenant.quote("job/sgx-test"), NO_CHALLENGE)
    assert verdict["platform"] == "simulated"
    until(add_on.is_well, "all is well", seconds=NOTICE_SECONDS)

    look = ("--", "python", "-c", LOOK)
    for pod in add_on.pods(HELPER).values():
        inside = ("exec", HERE, pod["metadata"]["name"])
        seen = {
            one: json.loads(cluster.kubectl(*inside, f"--container={one}", *look).stdout) for one in (AESMD, HELPER)
        }
        assert seen == {AESMD: {"/dev/sgx_enclave": "open", "/dev/sgx_provision": "open"}, HELPER: {}}


def tdx_service(name):
    """A DaemonSet that requests SGX's devices and no EPC, as Intel's services for trust domains do."""
    template = tenant_pod(name, container("main", limits=DEVICES, program=f"{LOOK}\nimport time\ntime.sleep(3600)"))
    spec = {**template["spec"], "restartPolicy": "Always", "securityContext": {"supplementalGroups": [SGX_PRV_GROUP]}}
    spec["nodeSelector"] = {HARDWARE_LABEL: "true"}
    labels = {"app": name}
    made = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name}, "spec": made}


def test_services_for_trust_domains_share_the_nodes(cluster, add_on, tenant, party, tmp_path) -> None:
    names = ("quote-generation-service", "platform-registration")
    for name in names:
        tenant.create(tdx_service(name))

    def refused() -> bool:
        events = tenant.kubectl("get", "events", "--field-selector=reason=FailedCreate", "--output=json").stdout
        told = [one for one in json.loads(events)["items"] if "sgx.intel.com/provision" in one["message"]]
        return {one["involvedObject"]["name"] for one in told} == {*names}

    until(refused, "Pods with the provision device are refused", seconds=NOTICE_SECONDS)
    add_on.confcom("update", f"--set=provision.namespaces={{{tenant.namespace}}}")
    for name in names:
        tenant.kubectl("rollout", "status", f"daemonset/{name}", f"--timeout={NOTICE_SECONDS:.0f}s")
    pods = json.loads(tenant.kubectl("get", "pods", "--selector=app", "--output=json").stdout)["items"]
    assert len(pods) == len(names) * len(add_on.nodes)
    for one in pods:
        devices = until(lambda pod=one: tenant.log(pod["metadata"]["name"]), "the devices are looked at")
        assert json.loads(devices) == {"/dev/sgx_enclave": "open", "/dev/sgx_provision": "open"}

    tenant.create(manifest("seed", import_workload(cluster, tmp_path)))
    tenant.wait_for_job("sgx-test")
    assert party.verify(tenant.quote("job/sgx-test"), NO_CHALLENGE)["platform"] == "simulated"
    until(add_on.is_well, "all is well", seconds=NOTICE_SECONDS)
    listed = {one["name"]: one["epc_mib"] for one in add_on.status()["workloads"]}
    assert {name: listed[name] for name in names} == dict.fromkeys(names, 0)
    add_on.confcom("rollback")


def test_no_attestation_fails_while_all_images_are_updated(
    cluster, add_on, aesmd_images, party, *, start_load, tmp_path
) -> None:
    load = start_load(add_on.offered_mib, RATE)
    tenants, first = load.states(), add_on.pods(HELPER)
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    digests = {name: digest_of(import_other(cluster, tmp_path, name)) for name in (PLUGIN, HELPER)}

    add_on.confcom("update", *(with_digest(name, digest) for name, digest in digests.items()))
    second = add_on.pods(HELPER)
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    add_on.confcom("update", f"--set=quoteHelper.aesmd.image.digest={aesmd_images.second}")
    third = add_on.pods(HELPER)
    load.wait_past(time.monotonic() + AROUND_SECONDS)

    assert len(uids(first) | uids(second) | uids(third)) == 3 * len(add_on.nodes)
    for pod in third.values():
        assert pod["spec"]["containers"][0]["image"].endswith(digests[HELPER])
        (sidecar,) = [one for one in pod["spec"]["initContainers"] if one["name"] == AESMD]
        assert sidecar["image"].endswith(aesmd_images.second)
    assert load.states() == tenants
    for node in add_on.nodes:
        assert str(sum(pod.epc_mib for pod in load.pods if pod.node == node.name)) == allocatable(cluster, node.name)
    outcome = Outcome.verified(load, party)
    assert outcome.not_offered(load.rate) == []
    assert outcome.failures == []


@dataclass(frozen=True)
class Sidecar:
    """The sidecar of one node's helper, which a file can make fail."""

    add_on: AddOn
    node: Node

    @property
    def pod(self) -> dict:
        (found,) = [one for one in self.add_on.all_pods(HELPER) if one["spec"].get("nodeName") == self.node.name]
        return found

    @property
    def restarts(self) -> int:
        statuses = self.pod["status"]["initContainerStatuses"]
        return next(one["restartCount"] for one in statuses if one["name"] == AESMD)

    def fail(self, fault: str) -> None:
        """Make the sidecar fail in this way; an empty text ends the fault."""
        volume = f"/var/lib/kubelet/pods/{self.pod['metadata']['uid']}/volumes/kubernetes.io~empty-dir/aesmd-private"
        file = f"{volume}/{FAULT.name}"
        self.node.run(["sh", "-c", 'echo "$1" > "$2" && chown 10001 "$2"', "sh", fault, file])

    def is_named(self, code: str) -> bool:
        """Whether `confcom status` names this code as the cause of a problem of the node."""
        problems = self.add_on.status()["problem_details"]
        return any(one["node"] == self.node.name and code in json.dumps(one) for one in problems)


def other_root(sidecar: Sidecar) -> None:
    sidecar.fail(OTHER_ROOT)
    until(lambda: sidecar.is_named("quote-of-another-root"), "status has the code", seconds=NOTICE_SECONDS)
    sidecar.fail("")


def hangs(sidecar: Sidecar) -> None:
    before = sidecar.restarts
    sidecar.fail(HANG)
    until(lambda: sidecar.is_named("aesmd-hangs"), "status has the code", seconds=NOTICE_SECONDS)
    until(lambda: sidecar.restarts > before, "the probe had aesmd restarted", seconds=RESTARTED_SECONDS)


def test_faults_of_one_nodes_aesmd_are_named_and_end(add_on, start_load, party) -> None:
    sidecar, load = Sidecar(add_on, add_on.nodes[0]), start_load(add_on.offered_mib, RATE)
    pod = sidecar.pod
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    began = time.monotonic()
    for fault in (other_root, hangs):
        fault(sidecar)
        until(add_on.is_well, "all is well again", seconds=NOTICE_SECONDS)
        load.wait_past(time.monotonic() + AROUND_SECONDS)
    back = time.monotonic()
    load.wait_past(back + AROUND_SECONDS)
    after = sidecar.pod
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    outcome = Outcome.verified(load, party)
    # The sidecar's clients wait for an answer if aesmd hangs.
    slow = {line.split()[0] for line in outcome.not_offered(load.rate)}
    assert {pod.node for pod in load.pods if pod.name in slow} <= {sidecar.node.name}
    assert outcome.failures
    assert outcome.failed_only_on(sidecar.node.name, (began, back))
