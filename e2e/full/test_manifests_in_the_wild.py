"""Manifests as people have them run unchanged, but for the names of images."""

from __future__ import annotations

import pytest

from e2e import add_on
from e2e.cluster import Cluster, Node
from e2e.cluster.addresses import NODE_NAME
from e2e.other_image import Changes, import_other
from e2e.relying_party import NO_CHALLENGE, RelyingParty
from e2e.tenants import BASELINE, IMAGE, Tenant, manifest

ASK_AESMD = ("seed", "intel-annotation")
"""Those that ask for quotes out of process by themselves; for the others, the image does."""
HOST_PATH_REFUSED = 'PodSecurity "baseline:latest": hostPath volumes (volume "var-run-aesmd")'


@pytest.fixture(scope="module")
def relying_party(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> RelyingParty:
    add_on.install(cluster)
    return RelyingParty.of(cluster, tmp_path_factory.mktemp("relying-party") / "trust")


@pytest.fixture(scope="module")
def image_with_variable(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample workload in an image that sets SGX_AESM_ADDR."""
    changes = Changes(variables={"SGX_AESM_ADDR": "1"})
    return import_other(cluster, tmp_path_factory.mktemp("image"), "sample-workload", changes=changes)


@pytest.fixture(autouse=True)
def sgx_node(cluster: Cluster, nodes: tuple[Node, Node, Node], relying_party: RelyingParty) -> Node:
    """The only one of three nodes that simulates SGX."""
    if not add_on.is_installed(cluster, [NODE_NAME]):
        add_on.install(cluster)
    return nodes[0]


@pytest.mark.parametrize(
    ("name", "job", "told"),
    [
        ("seed", "sgx-test", "enclave memory: 10 MiB"),
        ("enclave-alone", "enclave-alone", "enclave memory: not told"),
        ("intel-name", "intel-name", "enclave memory: 10 MiB"),
        ("intel-annotation", "intel-annotation", "enclave memory: 1 MiB"),
    ],
)
def test_a_job_runs_as_it_is(
    tenant: Tenant, relying_party: RelyingParty, image_with_variable: str, *, name: str, job: str, told: str
) -> None:
    if name.startswith("intel-") and not add_on.changes_pods(tenant.cluster):
        pytest.skip("this API server cannot change Pods by policies")
    tenant.create(manifest(name, IMAGE if name in ASK_AESMD else image_with_variable))
    tenant.wait_for_job(job)
    log = tenant.log(f"job/{job}")
    assert told in log
    assert "enclave device: /dev/sgx_enclave, open" in log
    relying_party.verify(tenant.quote(f"job/{job}"), NO_CHALLENGE)
    assert tenant.pod_of(job)["spec"]["nodeName"] == NODE_NAME


def test_the_seeds_job_where_host_paths_are_forbidden(tenant: Tenant, relying_party: RelyingParty) -> None:
    tenant.cluster.kubectl("label", "namespace", tenant.namespace, BASELINE)

    # As it is, the Job is accepted with a warning, and its Pods are refused.
    assert f"would violate {HOST_PATH_REFUSED}" in tenant.create(manifest("seed", IMAGE)).stderr
    assert f"violates {HOST_PATH_REFUSED}" in tenant.events("sgx-test", "FailedCreate")[0]
    tenant.kubectl("delete", "job", "sgx-test")

    tenant.create(manifest("seed-without-volume", IMAGE))
    tenant.wait_for_job("sgx-test")
    relying_party.verify(tenant.quote("job/sgx-test"), NO_CHALLENGE)


def test_privileged_with_the_hosts_devices_and_the_resource(
    sgx_node: Node, tenant: Tenant, relying_party: RelyingParty, image_with_variable: str
) -> None:
    name = "privileged-host-devices"
    assert "sgx" not in sgx_node.run(["ls", "/dev"]).stdout
    try:
        tenant.create(manifest(name, image_with_variable))
        tenant.wait_for_phase(name, "Succeeded")
        relying_party.verify(tenant.quote(name), NO_CHALLENGE)
    finally:
        # The container runtime made the volume's directory, and in it the device that the container was to have.
        sgx_node.run(["rm", "--recursive", "--force", "/dev/sgx"])
