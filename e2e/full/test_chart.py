"""The chart where a template cannot tell: upgrades with workloads running, rollbacks, what the API server refuses."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from confcom.playground.demo.context import examples_folder
from e2e.add_on import EPC, RELEASE, ROOT, SIMULATED_LABEL, SYSTEM, allocatable, names, uninstall
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import refusals_of
from e2e.images_workshop import CHART_REGISTRY, REGISTRY, references
from e2e.waiting import until

CHART = ROOT / "charts" / "confcom"
MINIMAL_CHART = Path(__file__).parent / "minimal_chart"
HARDWARE_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
SIMULATED = "simulated.enabled=true"
IN_SYSTEM = f"--namespace={SYSTEM}"
PLUGIN, HELPER = "confcom-device-plugin", "confcom-quote-helper"
PROVISION, HELPER_EPC = "sgx.intel.com/provision", "confcom.internal/quote_helper_epc_mem_in_MiB"
SMALLEST_NODE_MIB, ITS_OFFER_MIB = 28, 22
IMAGE = references("sample-workload")[0]
REGISTRY_OF_EACH = tuple(f"{daemon}.image.registry={REGISTRY}" for daemon in ("devicePlugin", "quoteHelper"))
"""The minimal chart has no registry for all images; its default is a name of docker.io."""


@dataclass
class AddOn:
    """The chart on the cluster's node, as somebody with helm and kubectl has it."""

    cluster: Cluster

    def label(self, *labels: str) -> None:
        self.cluster.kubectl("label", "node", NODE_NAME, "--overwrite", *labels)

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.cluster.run(["helm", *arguments, IN_SYSTEM], check=check, timeout=150)

    def upgrade(
        self, *settings: str, chart: Path = CHART, more: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess:
        chosen = [f"--set={setting}" for setting in (CHART_REGISTRY, *settings)]
        command = ["upgrade", RELEASE, str(chart), "--install", "--wait", "--timeout=90s", *chosen, *more]
        return self.helm(*command, check=check)

    def daemons(self) -> dict[str, dict]:
        listed = self.cluster.kubectl_json("get", "daemonsets", IN_SYSTEM)["items"]
        return {one["metadata"]["name"]: one for one in listed}

    def pod(self, component: str) -> dict:
        """The component's only Pod that is not about to go, once there is one only."""

        def only() -> dict | None:
            chosen = f"--selector=app.kubernetes.io/component={component}"
            listed = self.cluster.kubectl_json("get", "pods", IN_SYSTEM, chosen)["items"]
            return listed[0] if len(listed) == 1 else None

        return until(only, f"there is one {component}")


@pytest.fixture
def add_on(cluster: Cluster):
    """Nothing is installed, and no node is labelled: neither before nor afterwards."""
    made = AddOn(cluster)
    nothing = (f"{SIMULATED_LABEL}-", f"{HARDWARE_LABEL}-")
    uninstall(cluster)
    made.label(*nothing)
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    yield made
    uninstall(cluster)
    made.label(*nothing)


@dataclass
class Workloads:
    """Pods of somebody who uses the add-on."""

    cluster: Cluster
    here: str

    def create(self, manifest: dict | str, *more: str, check: bool = True) -> subprocess.CompletedProcess:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.cluster.kubectl("create", self.here, "--filename=-", *more, input=text, check=check)

    def hold(self) -> dict:
        """A Pod that holds EPC and has had a quote."""
        self.create(example("job-holding.yaml"))
        until(lambda: "quote: " in self.log("sgx-holding"), "the holding Job has its quote")
        return self.holding()

    def holding(self) -> dict:
        chosen = "--selector=job-name=sgx-holding"
        (pod,) = self.cluster.kubectl_json("get", "pods", self.here, chosen)["items"]
        return pod

    def log(self, job: str) -> str:
        return self.cluster.kubectl("logs", self.here, f"job/{job}").stdout

    def quote(self, name: str, resource: str = EPC) -> None:
        """A Job of the seed's kind, under this name, has a quote."""
        self.create(example("job.yaml").replace("name: sgx-test", f"name: {name}").replace(EPC, resource))
        self.cluster.kubectl("wait", self.here, "--for=condition=Complete", f"job/{name}", "--timeout=60s")
        assert "quote: " in self.log(name)

    def lives_on(self, before: dict) -> bool:
        after = self.holding()
        (container,) = after["status"]["containerStatuses"]
        return after["metadata"]["uid"] == before["metadata"]["uid"] and container["restartCount"] == 0


@pytest.fixture
def workloads(add_on: AddOn, namespace: str) -> Workloads:
    return Workloads(add_on.cluster, f"--namespace={namespace}")


def example(name: str) -> str:
    return (examples_folder() / name).read_text()


def pod_with(limits: dict, *, init: bool = False) -> dict:
    """A Pod that lists the devices it got, and ends."""
    look = "import os; print(sorted(n for n in os.listdir('/dev') if 'sgx_' in n))"
    plain = {"image": IMAGE, "imagePullPolicy": "Never", "command": ["python", "-c", look]}
    asking = {**plain, "name": "asking", "resources": {"limits": limits}}
    spec = {"restartPolicy": "Never", "containers": [{**plain, "name": "main"} if init else asking]}
    if init:
        spec["initContainers"] = [asking]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}


def test_upgrade_from_the_minimal_chart_with_workloads_running_and_back(add_on: AddOn, workloads: Workloads) -> None:
    add_on.label(f"{HARDWARE_LABEL}=true")
    add_on.upgrade(SIMULATED, *REGISTRY_OF_EACH, chart=MINIMAL_CHART)
    until(lambda: allocatable(add_on.cluster) == "162", "the node offers its EPC")
    held = workloads.hold()
    generations = {name: one["metadata"]["generation"] for name, one in add_on.daemons().items()}

    refused = add_on.upgrade(SIMULATED, check=False)

    assert refused.returncode != 0
    assert refusals_of(refused) == ["nodes-lose-daemons"]
    command = f"kubectl label node {NODE_NAME} {SIMULATED_LABEL}=true"
    assert command in refused.stderr
    assert {name: one["metadata"]["generation"] for name, one in add_on.daemons().items()} == generations

    add_on.cluster.run(command.split())
    before = {name: add_on.pod(name)["metadata"]["uid"] for name in ("device-plugin", "quote-helper")}
    add_on.upgrade(SIMULATED)
    after = {name: add_on.pod(name) for name in before}
    assert not {pod["metadata"]["uid"] for pod in after.values()} & set(before.values())
    limits = after["quote-helper"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits[HELPER_EPC], limits[PROVISION]) == ("3", "1")
    workloads.quote("after-upgrade")
    assert workloads.lives_on(held)

    add_on.helm("rollback", RELEASE, "1", "--wait", "--timeout=90s")
    for name, pod in after.items():
        until(
            lambda name=name, pod=pod: add_on.pod(name)["metadata"]["uid"] != pod["metadata"]["uid"],
            f"the {name} of before is back",
        )
    workloads.quote("after-rollback")
    assert workloads.lives_on(held)
    policies = add_on.cluster.kubectl("get", "validatingadmissionpolicies", "--output=name").stdout
    assert RELEASE not in policies


@pytest.fixture
def names_without_registry(cluster: Cluster) -> Iterator[None]:
    """Every node has the daemons' images under the names that older charts gave them, too: the Job runs on any."""
    taken = {f"docker.io/confcom/{one}:0.1.0": references(one)[0] for one in ("device-plugin", "quote-helper")}
    for node in cluster.nodes:
        for old, new in taken.items():
            node.run(["ctr", "images", "tag", "--force", new, old])
    yield
    for node in cluster.nodes:
        node.run(["ctr", "images", "remove", *taken])


@pytest.mark.usefixtures("names_without_registry")
def test_a_release_without_a_registry_is_upgraded_only_with_one_and_rolled_back_as_it_was(add_on: AddOn) -> None:
    add_on.label(f"{HARDWARE_LABEL}=true", f"{SIMULATED_LABEL}=true")
    add_on.upgrade(SIMULATED, chart=MINIMAL_CHART)
    components = ("device-plugin", "quote-helper")
    before = {name: add_on.pod(name) for name in components}
    assert image_of(before["quote-helper"]) == "confcom/quote-helper:0.1.0"

    for stored in ((), ("--reset-then-reuse-values",)):
        refused = add_on.upgrade(SIMULATED, "image.registry=", more=stored, check=False)
        assert refused.returncode != 0
        assert refusals_of(refused) == ["images-from-anywhere"]
        assert "--set image.registry=REGISTRY" in refused.stderr
    listed = json.loads(add_on.helm("history", RELEASE, "--output=json").stdout)
    assert [(one["revision"], one["status"]) for one in listed] == [(1, "deployed")]
    uids = {name: pod["metadata"]["uid"] for name, pod in before.items()}
    assert {name: add_on.pod(name)["metadata"]["uid"] for name in components} == uids

    add_on.upgrade(SIMULATED)
    assert image_of(add_on.pod("quote-helper")) == references("quote-helper")[0]
    add_on.helm("rollback", RELEASE, "1", "--wait", "--timeout=90s")
    until(
        lambda: {image_of(add_on.pod(name)) for name in components} == {f"confcom/{name}:0.1.0" for name in components},
        "the daemons of before are back",
    )


def image_of(pod: dict) -> str:
    return pod["spec"]["containers"][0]["image"]


def test_who_may_ask_for_provision(add_on: AddOn, workloads: Workloads, namespace: str) -> None:
    add_on.label(f"{SIMULATED_LABEL}=true")
    add_on.upgrade(SIMULATED)
    provision = {PROVISION: 1}

    def refusal(pod: dict) -> str:
        return workloads.create(pod, "--dry-run=server", check=False).stderr

    # A new policy is enforced when the API server has seen it.
    message = until(lambda: refusal(pod_with(provision)), "the policy is enforced")
    assert f"container asking asks for {PROVISION}, which namespace {namespace} may not" in message
    assert f"provision.namespaces of the Helm release {RELEASE} in {SYSTEM}" in message
    assert f"asks for {PROVISION}" in refusal(pod_with(provision, init=True))
    assert f"asks for {HELPER_EPC}, which is set aside" in refusal(pod_with({HELPER_EPC: 1}))
    assert refusal(pod_with({EPC: 1})) == ""
    assert refusal(pod_with({PROVISION: 0, HELPER_EPC: 0})) == ""
    assert f"asks for {PROVISION}" in refusal(pod_with({PROVISION: "1k"}))

    # Who made a Job reads the same in its events.
    pod = pod_with(provision)
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "foreign"},
        "spec": {"template": {"spec": pod["spec"]}},
    }
    workloads.create(job)
    events = ("get", "events", workloads.here, "--field-selector=involvedObject.name=foreign")
    told = until(lambda: add_on.cluster.kubectl_json(*events)["items"], "the Job's controller says why")
    assert f"container asking asks for {PROVISION}" in told[0]["message"]

    add_on.upgrade(SIMULATED, f"provision.namespaces[0]={namespace}")
    until(lambda: not refusal(pod_with(provision)), "the namespace is allowed")
    workloads.create(pod_with(provision))
    done = "--for=jsonpath={.status.phase}=Succeeded"
    add_on.cluster.kubectl("wait", workloads.here, done, "pod/probe", "--timeout=60s")
    assert add_on.cluster.kubectl("logs", workloads.here, "probe").stdout.strip() == "['sgx_provision']"
    assert f"asks for {HELPER_EPC}" in refusal(pod_with({HELPER_EPC: 1}))


@pytest.mark.parametrize(
    "broken",
    [
        ("quoteHelper.image.tag=absent", "quoteHelper.image.pullPolicy=Never"),
        ("quoteHelper.image.repository=confcom/sample-workload", "quoteHelper.image.pullPolicy=Never"),
    ],
    ids=["an image that is not there", "a program that does not quote"],
)
def test_an_update_that_cannot_quote_stops_with_the_old_one_serving(
    add_on: AddOn, workloads: Workloads, broken: tuple[str, ...]
) -> None:
    add_on.label(f"{SIMULATED_LABEL}=true")
    add_on.upgrade(SIMULATED)
    until(lambda: allocatable(add_on.cluster) == "162", "the node offers its EPC")
    old = add_on.pod("quote-helper")["metadata"]["uid"]
    held = workloads.hold()

    # The hook's Job, which has the helper's image, would stop most of these before.
    failed = add_on.upgrade(SIMULATED, *broken, more=("--no-hooks", "--timeout=15s"), check=False)

    assert failed.returncode != 0
    listed = add_on.cluster.kubectl_json(
        "get", "pods", IN_SYSTEM, "--selector=app.kubernetes.io/component=quote-helper"
    )
    ready = {
        pod["metadata"]["uid"]: all(one["ready"] for one in pod["status"]["containerStatuses"])
        for pod in listed["items"]
    }
    assert len(ready) == 2
    assert [uid for uid, is_ready in ready.items() if is_ready] == [old]
    workloads.quote("meanwhile")

    add_on.helm("rollback", RELEASE, "1", "--wait", "--timeout=60s")
    assert add_on.pod("quote-helper")["metadata"]["uid"] == old
    workloads.quote("afterwards")
    assert workloads.lives_on(held)


def test_an_update_on_a_node_whose_every_mib_is_taken(add_on: AddOn, workloads: Workloads) -> None:
    add_on.label(f"{SIMULATED_LABEL}=true")
    small = (SIMULATED, f"simulated.epcMiB={SMALLEST_NODE_MIB}")
    add_on.upgrade(*small)
    until(lambda: allocatable(add_on.cluster) == str(ITS_OFFER_MIB), "the node offers its EPC")
    workloads.create(example("job-holding.yaml").replace(f"{EPC}: 10", f"{EPC}: {ITS_OFFER_MIB}"))
    until(lambda: "quote: " in workloads.log("sgx-holding"), "the tenant has its quote")
    held = workloads.holding()
    assert held["spec"]["containers"][0]["resources"]["limits"][EPC] == str(ITS_OFFER_MIB)
    before = {name: add_on.pod(name)["metadata"]["uid"] for name in ("device-plugin", "quote-helper")}

    add_on.upgrade(*small, "logLevel=debug")

    after = {name: add_on.pod(name)["metadata"]["uid"] for name in before}
    assert not set(before.values()) & set(after.values())
    assert workloads.lives_on(held)
    # With less set aside than the old one holds, the new one would wait for ever.
    refused = add_on.upgrade(*small, "quoteHelper.epcMiB=2", check=False)
    assert refusals_of(refused) == ["helper-epc-lowered"]
    preempted = add_on.cluster.kubectl_json("get", "events", workloads.here, "--field-selector=reason=Preempted")
    assert preempted["items"] == []


def test_beside_hardware_real_names_do_not_fit_on_a_simulated_node(
    add_on: AddOn, workloads: Workloads, namespace: str
) -> None:
    add_on.label(f"{HARDWARE_LABEL}=true")
    refused = add_on.upgrade(SIMULATED, check=False)
    assert refusals_of(refused) == ["hardware-in-cluster"]
    assert NODE_NAME in refused.stderr
    assert "--set simulated.besideHardware=true" in refused.stderr
    assert names(add_on.cluster, "daemonsets", SYSTEM) == []

    add_on.label(f"{HARDWARE_LABEL}-", f"{SIMULATED_LABEL}=true")
    add_on.upgrade(SIMULATED, "simulated.besideHardware=true")
    workloads.quote("asks-for-simulation", "simulated.confcom.internal/sgx_epc_mem_in_MiB")
    workloads.create(example("job.yaml"))

    def reason() -> str:
        listed = add_on.cluster.kubectl_json("get", "pods", workloads.here, "--selector=job-name=sgx-test")["items"]
        conditions = [one for pod in listed for one in pod["status"].get("conditions", [])]
        return next((one["message"] for one in conditions if one["reason"] == "Unschedulable"), "")

    assert f"Insufficient {EPC}" in until(reason, "the scheduler has looked at the Job")
