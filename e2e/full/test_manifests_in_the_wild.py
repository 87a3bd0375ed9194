"""Published manifests run unchanged, except for the names of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e import add_on
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.other_image import Changes, import_other
from e2e.relying_party import NO_CHALLENGE, RelyingParty
from e2e.tenants import BASELINE, IMAGE, Tenant, manifest

ASK_AESMD = ("seed", "intel-annotation")
"""Manifests that select out-of-process quotes; for other manifests, the image selects such quotes."""


pytestmark = pytest.mark.usefixtures("nodes")


@pytest.fixture
def relying_party(installed: Cluster, tmp_path: Path) -> RelyingParty:
    return RelyingParty.of(installed, tmp_path / "trust")


@pytest.fixture(scope="module")
def image_with_variable(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sample workload in an image that sets SGX_AESM_ADDR."""
    changes = Changes(variables={"SGX_AESM_ADDR": "1"})
    return import_other(cluster, tmp_path_factory.mktemp("image"), "sample-workload", changes=changes)


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
    tenant.create(manifest("seed-without-volume", IMAGE))
    tenant.wait_for_job("sgx-test")
    relying_party.verify(tenant.quote("job/sgx-test"), NO_CHALLENGE)


def test_privileged_with_the_hosts_devices_and_the_resource(
    tenant: Tenant, relying_party: RelyingParty, image_with_variable: str
) -> None:
    name = "privileged-host-devices"
    tenant.create(manifest(name, image_with_variable))
    tenant.wait_for_phase(name, "Succeeded")
    relying_party.verify(tenant.quote(name), NO_CHALLENGE)
