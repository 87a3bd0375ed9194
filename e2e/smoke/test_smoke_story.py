"""The story on real Kubernetes: our chart, the demo's examples, verification outside of the cluster."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from confcom.errors import UnavailableError
from confcom.node_test.pod import TEST_LABEL
from e2e.add_on import EPC, HERE, ROOT_SECRET, SYSTEM, allocatable, install, names, uninstall
from e2e.cluster import Cluster
from e2e.confcom_command import JSON, confcom, document_of
from e2e.relying_party import RelyingParty
from e2e.tenants import Tenant, container, example, pod
from e2e.waiting import until

ROOT = {f"secrets/{SYSTEM}/{ROOT_SECRET}"}
"""The object that an uninstall leaves: the Secret with the simulated root."""
PLACEHOLDER = "0" * 64


@pytest.fixture
def tenant(installed: Cluster, namespace: str) -> Tenant:
    return Tenant(installed, namespace)


def test_the_quote_of_the_seeds_job_is_verified_outside(tenant: Tenant, tmp_path: Path) -> None:
    challenge = secrets.token_hex(32)
    tenant.create(example("job.yaml").replace(PLACEHOLDER, challenge))
    tenant.wait_for_job("sgx-test")
    verdict = RelyingParty.of(tenant.cluster, tmp_path / "trust").verify(tenant.quote("job/sgx-test"), challenge)
    assert verdict["platform"] == "simulated"


def test_what_does_not_fit_waits_and_runs_when_there_is_room(tenant: Tenant) -> None:
    tenant.create(example("job-holding.yaml"))
    tenant.wait_for_quote("job/sgx-holding")
    tenant.create(example("job-large.yaml"))
    assert f"Insufficient {EPC}" in tenant.why_pending(tenant.pod_of("sgx-large")["metadata"]["name"])

    tenant.kubectl("delete", "job", "sgx-holding")

    tenant.wait_for_job("sgx-large")


def test_without_the_resource_there_is_no_device_node(tenant: Tenant) -> None:
    look = "import os; print(sorted(n for n in os.listdir('/dev') if 'sgx' in n))"
    for name, limits, devices in (("without", {}, "[]"), ("with", {EPC: 1}, "['sgx', 'sgx_enclave']")):
        tenant.create(pod(name, container("main", limits=limits, program=look)))
        tenant.wait_for_phase(name, "Succeeded")
        assert tenant.log(name).strip() == devices


def test_each_node_attests_and_the_test_leaves_nothing(installed: Cluster) -> None:
    found = document_of(confcom(installed, "test", JSON))
    assert {(one["epc"], one["device"], one["verified"]) for one in found["results"]} == {(True, True, True)}
    until(lambda: not installed.kubectl_json("get", "namespaces", f"--selector={TEST_LABEL}")["items"], "it has gone")


def test_uninstall_leaves_nothing_but_the_root(cluster: Cluster) -> None:
    uninstall(cluster)
    cluster.kubectl("create", "namespace", SYSTEM, check=False)
    until(lambda: "kube-root-ca.crt" in names(cluster, "configmaps", SYSTEM), "the namespace is complete")
    before = cluster.objects() - ROOT
    install(cluster)

    uninstall(cluster)

    def only_the_root_is_left() -> bool:
        left = cluster.objects() - before
        if left != ROOT:
            raise UnavailableError(f"left is {', '.join(sorted(left)) or 'nothing'}")
        return True

    until(only_the_root_is_left, "nothing is left but the root")
    # The kubelet leaves the resources' names in the node's status, and sets them to 0 after the plugin's end.
    until(lambda: allocatable(cluster) == "0", "the node offers no EPC any more")
    root = cluster.kubectl_json("get", "secret", ROOT_SECRET, HERE)
    install(cluster)
    assert cluster.kubectl_json("get", "secret", ROOT_SECRET, HERE)["data"] == root["data"]
