"""Nodes that look like hardware, with the add-on as it is for hardware: quotes by a sidecar, through the relay.

The driver, the EPC's size and the device nodes are made on the nodes; the sidecar's image is a stand-in for Intel's
aesmd, and the expected root is the simulated platform's.
"""

import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from confcom.quote_helper.quoting.restart_request import FIRST_RESTART_SECONDS
from confcom.sgx.epc_from_cpuid import MIB
from e2e import images
from e2e.add_on import SYSTEM, uninstall
from e2e.cluster import Node
from e2e.confcom_command import HELPER, PLUGIN, SET_ASIDE_MIB, AddOn, uids
from e2e.hardware.aesm_service import FAULT, HALF, HANG, OTHER_ROOT, TYPE_3
from e2e.hardware.aesmd_image import REPOSITORY, AesmdImages, import_workload
from e2e.hardware.node_devices import SGX_PRV_GROUP, sgx_hardware
from e2e.images_workshop import CHART_REGISTRY, REGISTRY
from e2e.load.outcome import Outcome, Trust
from e2e.load.pods import Load
from e2e.other_image import derive
from e2e.relying_party import RelyingParty
from e2e.tenants import manifest
from e2e.waiting import until

CASE_SECONDS = 1200
SMALLEST_NODE_MIB = 28
RATE = 10.0
"""Attestations per second of each of eight clients, as in the case of simulated nodes."""
AROUND_SECONDS = 10.0
NOTICE_SECONDS = 150.0
RESTARTED_SECONDS = FIRST_RESTART_SECONDS + 240.0
"""From the first call that hangs: its deadline, the wait before the request, the probe, and the kubelet's grace."""
HARDWARE_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
AESMD = "aesmd"
LOOK = """
import glob, json, os
found = {}
for path in sorted(glob.glob("/dev/sgx_*")):
    try:
        os.close(os.open(path, os.O_RDWR))
        found[path] = "open"
    except OSError as error:
        found[path] = error.strerror
print(json.dumps(found))
"""
"""Which SGX devices a container has, and whether it can open them."""

pytestmark = pytest.mark.timeout(CASE_SECONDS, func_only=True)


@pytest.fixture(scope="module")
def aesmd_images(cluster, tmp_path_factory):
    return AesmdImages.import_into(cluster, tmp_path_factory.mktemp("aesmd"))


@pytest.fixture(scope="module")
def add_on(cluster, aesmd_images, tmp_path_factory):
    """The add-on on two nodes, by `confcom enable` without --simulated."""
    chosen = cluster.nodes[:2]
    values = {
        "quoteHelper": {
            "provider": "aesmd",
            "sgxPrvGroup": SGX_PRV_GROUP,
            "expectedRoot": aesmd_images.root,
            "aesmd": {
                "image": {"repository": REPOSITORY, "digest": aesmd_images.helper, "pullPolicy": "Never"},
            },
        }
    }
    file = tmp_path_factory.mktemp("values") / "values.json"
    file.write_text(json.dumps(values))
    uninstall(cluster)
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
def trust(aesmd_images):
    return Trust(aesmd_images.trust, datetime.now(UTC))


@pytest.fixture
def load(add_on, nodes, namespace, tmp_path):
    (tmp_path / "load").mkdir()
    offered, folder = add_on.offered_mib, tmp_path / "load"
    return Load.start(add_on.cluster, namespace, add_on.nodes, offered_mib=offered, rate=RATE, folder=folder)


@pytest.fixture(scope="module")
def workload(cluster, tmp_path_factory):
    return import_workload(cluster, tmp_path_factory.mktemp("workload"))


def in_container(add_on: AddOn, pod: dict, container: str, *command: str) -> str:
    name = pod["metadata"]["name"]
    done = add_on.cluster.kubectl("exec", f"--namespace={SYSTEM}", name, f"--container={container}", "--", *command)
    return done.stdout


def judge(load: Load, trust: Trust, tell, *, waited: Node | None = None) -> Outcome:
    """Every quote verifies, and every client tried at its rate, but for those of a node that waited for answers."""
    outcome = Outcome.verified(load, trust, tell)
    slow = {line.split()[0] for line in outcome.not_offered(load.rate)}
    assert {pod.node for pod in load.pods if pod.name in slow} <= {waited.name if waited else ""}
    return outcome


def test_the_seeds_job_is_quoted_through_the_relay_and_verified(add_on, tenant, workload, aesmd_images, tell) -> None:
    tenant.create(manifest("seed", workload))
    tenant.wait_for_job("sgx-test")
    relying_party = RelyingParty.of_folder(aesmd_images.trust)
    verdict = relying_party.verify(tenant.quote("job/sgx-test"), "00" * 64)
    assert verdict["platform"] == "simulated"
    found = add_on.status()
    assert found["ok"], found["problems"]
    tell(f"the log's last line: {tenant.log('job/sgx-test').splitlines()[-1]}")


def test_only_the_sidecar_has_the_devices_and_can_open_them(add_on) -> None:
    for pod in add_on.pods(HELPER).values():
        seen = {name: json.loads(in_container(add_on, pod, name, "python", "-c", LOOK)) for name in (AESMD, HELPER)}
        assert seen == {AESMD: {"/dev/sgx_enclave": "open", "/dev/sgx_provision": "open"}, HELPER: {}}


def test_no_attestation_fails_while_helper_plugin_and_aesmd_are_updated(  # noqa: PLR0917 # fixtures
    add_on, aesmd_images, trust, load, tmp_path, tell
) -> None:
    tenants, first = load.states(), add_on.pods(HELPER)
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    digests = {name: other_image(add_on, name, tmp_path) for name in (PLUGIN, HELPER)}

    add_on.confcom("update", *(f"--image-digest={name}={digest}" for name, digest in digests.items()))
    second = add_on.pods(HELPER)
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    add_on.confcom("update", f"--set=quoteHelper.aesmd.image.digest={aesmd_images.other_helper}")
    third = add_on.pods(HELPER)
    load.wait_past(time.monotonic() + AROUND_SECONDS)

    assert len(uids(first) | uids(second) | uids(third)) == 3 * len(add_on.nodes)
    for pod in third.values():
        assert pod["spec"]["containers"][0]["image"].endswith(digests[HELPER])
        (sidecar,) = [one for one in pod["spec"]["initContainers"] if one["name"] == AESMD]
        assert sidecar["image"].endswith(aesmd_images.other_helper)
    assert load.states() == tenants
    for node in add_on.nodes:
        assert str(sum(pod.epc_mib for pod in load.pods if pod.node == node.name)) == add_on.offered(node)
    outcome = judge(load, trust, tell)
    assert outcome.failures == []


def other_image(add_on: AddOn, name: str, folder) -> str:
    archive = folder / f"{name}.tar"
    repository = f"{REGISTRY}/confcom/{name}"
    digest = derive(images.build_all()[name], archive, repository, revision=secrets.token_hex(4))
    add_on.cluster.import_image(archive)
    archive.unlink()
    return digest


@dataclass(frozen=True)
class Sidecar:
    """The sidecar of one node's helper, which can be told to fail."""

    add_on: AddOn
    node: Node

    @property
    def pod(self) -> dict[str, Any]:
        return self.add_on.pods_now(HELPER)[self.node.name]

    @property
    def restarts(self) -> int:
        statuses = self.pod["status"]["initContainerStatuses"]
        return next(one["restartCount"] for one in statuses if one["name"] == AESMD)

    def fail(self, fault: str) -> None:
        """Have it fail so; an empty one ends the fault."""
        volume = f"/var/lib/kubelet/pods/{self.pod['metadata']['uid']}/volumes/kubernetes.io~empty-dir/aesmd-private"
        file = f"{volume}/{FAULT.name}"
        self.node.run(["sh", "-c", 'echo "$1" > "$2" && chown 10001 "$2"', "sh", fault, file])

    def kill(self) -> None:
        (pid,) = self.node.run(["pgrep", "--full", "e2e.hardware.aesm_service stub"]).stdout.split()
        self.node.run(["kill", "-KILL", pid])

    def told(self, code: str) -> str:
        """What status says of the node with the code as its cause, or an empty text."""
        found = [one for one in self.add_on.status()["problem_details"] if one["node"] == self.node.name]
        return next((one["problem"] for one in found if code in json.dumps(one)), "")


@pytest.fixture(scope="module")
def failing(add_on, aesmd_images):
    """The stand-in that can be told to fail, on both nodes."""
    add_on.confcom("update", f"--set=quoteHelper.aesmd.image.digest={aesmd_images.stub}")
    return add_on


@pytest.fixture
def sidecar(failing, nodes):
    made = Sidecar(failing, failing.nodes[0])
    until(lambda: failing.status()["ok"], "all is well before", seconds=NOTICE_SECONDS)
    yield made
    made.fail("")
    failing.cluster.mend()
    until(lambda: failing.status()["ok"], "all is well again", seconds=NOTICE_SECONDS)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(HALF, "aesmd-closed", id=HALF),
        pytest.param(TYPE_3, "quote-without-pck-chain", id=TYPE_3),
        pytest.param(OTHER_ROOT, "quote-of-another-root", id=OTHER_ROOT),
    ],
)
def test_status_names_the_fault_of_one_nodes_aesmd_and_the_other_node_quotes_on(  # noqa: PLR0917 # fixtures
    sidecar, load, trust, tell, fault, code
) -> None:
    before = sidecar.restarts
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    began = time.monotonic()
    sidecar.fail(fault)
    told = until(lambda: sidecar.told(code), f"status has {code}", seconds=NOTICE_SECONDS)
    tell(f"{fault}: after {time.monotonic() - began:.0f} s: {told}")
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    sidecar.fail("")
    until(lambda: sidecar.add_on.status()["ok"], "all is well again", seconds=NOTICE_SECONDS)
    back = time.monotonic()
    load.wait_past(back + AROUND_SECONDS)
    assert sidecar.restarts == before or fault == HALF
    outcome = judge(load, trust, tell)
    assert outcome.failures
    assert outcome.failed_only_on(sidecar.node.name, (began, back))


def test_an_aesmd_that_is_killed_is_back_soon(sidecar, load, trust, tell) -> None:
    before = sidecar.restarts
    load.wait_past(time.monotonic() + AROUND_SECONDS)
    began = time.monotonic()
    sidecar.kill()
    until(lambda: sidecar.restarts == before + 1, "the kubelet has restarted aesmd")
    until(lambda: sidecar.add_on.status()["ok"], "all is well again", seconds=NOTICE_SECONDS)
    back = time.monotonic()
    load.wait_past(back + AROUND_SECONDS)
    outcome = judge(load, trust, tell)
    tell(f"killed: well again after {back - began:.1f} s; {len(outcome.failures)} attestations failed")
    assert outcome.failed_only_on(sidecar.node.name, (began, back))


def test_an_aesmd_that_hangs_is_named_and_restarted_by_the_helpers_verdict(sidecar, load, trust, tell) -> None:
    before, pod = sidecar.restarts, sidecar.pod
    began = time.monotonic()
    sidecar.fail(HANG)
    told = until(lambda: sidecar.told("aesmd-hangs"), "status has aesmd-hangs", seconds=NOTICE_SECONDS)
    tell(f"hang: after {time.monotonic() - began:.0f} s: {told}")
    until(lambda: sidecar.restarts > before, "the probe had aesmd restarted", seconds=RESTARTED_SECONDS)
    tell(f"restarted after {time.monotonic() - began:.0f} s")
    until(lambda: sidecar.add_on.status()["ok"], "all is well again", seconds=NOTICE_SECONDS)
    back = time.monotonic()
    load.wait_past(back + AROUND_SECONDS)
    after = sidecar.pod
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    outcome = judge(load, trust, tell, waited=sidecar.node)
    assert outcome.failures
    assert outcome.failed_only_on(sidecar.node.name, (began, back))


def test_the_hardware_report_of_the_cluster_tells_of_both_nodes_without_their_names(
    add_on, tenant, workload, tell
) -> None:
    tenant.create(manifest("seed", workload))
    tenant.wait_for_job("sgx-test")
    quoted = tenant.pod_of("sgx-test")["spec"]["nodeName"]
    done = add_on.confcom("hardware-report", "--cluster", "--output=json")
    nodes = json.loads(done.stdout)["nodes"]
    assert [one["node"] for one in nodes] == [1, 2]
    for one in nodes:
        epc, aesm = one["report"]["sections"]["epc"], one["report"]["sections"]["aesm"]
        assert epc["sysfs_bytes"]["value"] == SMALLEST_NODE_MIB * MIB
        assert "/dev/sgx_provision" in json.dumps(one["report"]["sections"]["devices"])
        outcomes = {call["call"]: call["outcome"] for call in aesm["calls"]["value"]}
        tell(f"node {one['node']}: {outcomes}; {[finding['code'] for finding in one['findings']]}")
        assert outcomes["InitQuoteEx"] == "ok"
    assert all(node.name in done.stderr and node.name not in done.stdout for node in add_on.nodes)
    left = add_on.cluster.kubectl_json("get", "jobs", f"--namespace={SYSTEM}")["items"]
    assert not [job for job in left if "report" in job["metadata"]["name"]]
    of_one = add_on.confcom("hardware-report", "--cluster", f"--node={quoted}", "--output=json").stdout
    (report,) = json.loads(of_one)["nodes"]
    assert report["report"]["sections"]["quote"]["size"]["value"] > 0
    tell(add_on.confcom("hardware-report", "--cluster", f"--node={quoted}").stdout)
