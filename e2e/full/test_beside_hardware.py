"""A simulated node in a cluster with hardware needs consent, and its resources have their own names."""

import pytest

from e2e.add_on import EPC, HERE, RELEASE, ROOT, SIMULATED_LABEL, SYSTEM, create_root, mark_removal, names
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import JSON, confcom, document_of
from e2e.images import CHART_REGISTRY
from e2e.tenants import example

HARDWARE_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
SIMULATED_EPC = "simulated.confcom.internal/sgx_epc_mem_in_MiB"


@pytest.fixture
def upgrade(bare):
    """Runs `helm upgrade` with a simulated platform; the cluster has no release before and afterwards."""

    def with_setting(setting, *, check=True):
        chart = ["helm", "upgrade", RELEASE, str(ROOT / "charts" / "confcom"), "--install", HERE]
        chosen = [f"--set={one}" for one in (CHART_REGISTRY, "simulated.enabled=true", setting)]
        return bare.run([*chart, *chosen, "--wait", "--timeout=90s"], check=check, timeout=150)

    bare.kubectl("create", "namespace", SYSTEM, check=False)
    create_root(bare)
    yield with_setting
    mark_removal(bare)
    bare.kubectl("label", "nodes", "--all", f"{SIMULATED_LABEL}-", f"{HARDWARE_LABEL}-")


@pytest.mark.timeout(400, func_only=True)
def test_real_names_do_not_fit_on_a_simulated_node(cluster, upgrade, tenant):
    cluster.kubectl("label", "node", NODE_NAME, f"{HARDWARE_LABEL}=true")
    refused = upgrade("logLevel=info", check=False)
    assert "code: hardware-in-cluster" in refused.stderr
    assert NODE_NAME in refused.stderr
    assert "--set simulated.besideHardware=true" in refused.stderr
    assert names(cluster, "daemonsets", SYSTEM) == []

    cluster.kubectl("label", "node", NODE_NAME, f"{HARDWARE_LABEL}-", f"{SIMULATED_LABEL}=true")
    upgrade("simulated.besideHardware=true")
    job = example("job.yaml")
    tenant.create(job.replace("name: sgx-test", "name: asks-for-simulation").replace(EPC, SIMULATED_EPC))
    tenant.wait_for_job("asks-for-simulation")
    assert tenant.quote("job/asks-for-simulation")
    (tested,) = document_of(confcom(cluster, "test", JSON))["results"]
    assert (tested["node"], tested["verified"]) == (NODE_NAME, True)
    tenant.create(job)
    assert f"Insufficient {EPC}" in tenant.why_pending(tenant.pod_of("sgx-test")["metadata"]["name"])
