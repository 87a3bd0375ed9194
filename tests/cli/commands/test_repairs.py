import pytest

from confcom.addon.simulated_root import DEFAULT_SECRET
from confcom.errors import ExitCode
from testkit import cluster_objects as make
from testkit.chart_manifests import PCS
from testkit.cli_output import findings_of
from testkit.cluster_objects import EPC
from testkit.memory_helm import golden_manifests

ENABLE = ("enable", "--simulated")
PLUGIN, HELPER = "confcom-device-plugin", "confcom-quote-helper"


def test_an_object_that_differs_or_is_missing_is_restored(confcom, enabled):
    enabled.api.find("DaemonSet", PLUGIN)[0]["spec"]["template"]["spec"]["serviceAccountName"] = "other"
    enabled.api.remove("ServiceAccount", HELPER)
    document = confcom.document(*ENABLE)
    assert (document["changed"], document["revision"]) == (True, 2)
    assert enabled.api.find("DaemonSet", PLUGIN)[0]["spec"]["template"]["spec"]["serviceAccountName"] == PLUGIN
    assert enabled.api.find("ServiceAccount", HELPER)


def test_a_policy_that_no_apply_can_mend_is_deleted_for_helm_to_make(confcom, enabled):
    path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/confcom-pods"
    refused = ("PATCH", path)
    enabled.api.refuse(lambda request: (request.method, request.url.path) == refused, 422, "it is invalid")
    assert confcom.document(*ENABLE)["changed"]
    assert ("DELETE", path) in enabled.api.writes
    assert enabled.api.find("ValidatingAdmissionPolicyBinding", "confcom-pods")


def test_a_missing_root_is_created_anew_after_its_users_were_restarted(confcom, enabled):
    made = golden_manifests("placement", make.SYSTEM)
    (served,) = [one for one in made if (one["kind"], one["metadata"]["name"]) == ("Deployment", PCS)]
    enabled.api.put(served)
    enabled.api.remove("Secret", DEFAULT_SECRET)
    enabled.api.writes.clear()
    assert confcom.document(*ENABLE)["changed"]
    writes = [path.rpartition("/")[2] for method, path in enabled.api.writes if method in {"PATCH", "POST"}]
    for kind, name in (("DaemonSet", HELPER), ("Deployment", PCS)):
        assert writes.index(name) < writes.index("secrets")
        template = enabled.api.find(kind, name)[0]["spec"]["template"]
        assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def test_an_interrupted_installation_is_removed_and_made_again(confcom, cluster):
    cluster.helm.fail("upgrade", "killed", status="pending-install")
    confcom.error(ExitCode.FAILED, "helm-failed", *ENABLE)
    cluster.sleep(61)
    assert confcom.document(*ENABLE)["revision"] == 1
    assert cluster.helm_changes() == ["upgrade", "uninstall", "upgrade"]


@pytest.mark.parametrize("release", [True, False], ids=["all DaemonSets deleted", "release removed by helm alone"])
def test_epc_that_the_controller_wrote_is_no_other_plugins(confcom, enabled, release):
    (node,) = enabled.api.find("Node", "a")
    others = [name for name in node["status"]["capacity"] if name != EPC]
    node["status"]["allocatable"] |= dict.fromkeys(others, "0")
    node["metadata"]["managedFields"] = [make.writes_of([EPC])]
    if release:
        for name in (PLUGIN, HELPER):
            enabled.api.remove("DaemonSet", name)
    else:
        enabled.add_on().helm.uninstall()
    assert confcom.document(*ENABLE)["changed"]
    assert len(enabled.api.find("DaemonSet")) == 2
    enabled.add_on().helm.uninstall()
    node["metadata"]["managedFields"] = [make.writes_of([EPC], "another-plugin")]
    found = findings_of(confcom.document(*ENABLE, exit_code=ExitCode.REFUSED))
    assert ("failed", "resource-offered-already") in found.values()
