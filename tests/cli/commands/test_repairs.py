import pytest

from confcom.addon.api import plural
from confcom.addon.simulated_root import DEFAULT_SECRET
from confcom.errors import ExitCode
from testkit import cluster_objects as make
from testkit.chart_manifests import PCS
from testkit.cli_output import findings_of
from testkit.cluster_objects import EPC
from testkit.fake_helm import golden_manifests

ENABLE = ("enable", "--simulated")
PLUGIN, HELPER = "confcom-device-plugin", "confcom-quote-helper"


def test_an_object_that_differs_or_is_missing_is_restored(confcom, enabled):
    enabled.api.find("DaemonSet", PLUGIN)[0]["spec"]["template"]["spec"]["serviceAccountName"] = "other"
    enabled.api.remove("ServiceAccount", HELPER)
    document = confcom.document(*ENABLE)
    assert (document["changed"], document["revision"]) == (True, 2)
    assert enabled.api.find("DaemonSet", PLUGIN)[0]["spec"]["template"]["spec"]["serviceAccountName"] == PLUGIN
    assert enabled.api.find("ServiceAccount", HELPER)


BINDING = "ValidatingAdmissionPolicyBinding"
CHANGES = {
    "enable": (ENABLE, ()),
    "update": (("update", "--set", "logLevel=debug"), ()),
    "rollback": (("rollback",), ("update", "--set", "logLevel=debug")),
}


@pytest.fixture(params=CHANGES)
def change(request, confcom, enabled):
    command, before = CHANGES[request.param]
    if before:
        confcom.ok(*before)
    return command


def test_every_change_removes_what_somebody_added_to_a_policy(confcom, enabled, change):
    (binding,) = enabled.api.find(BINDING, "confcom-pods")
    binding["spec"]["matchResources"] = {"namespaceSelector": {"matchLabels": {"no": "namespace"}}}
    (seen,) = confcom.document("status", exit_code=ExitCode.NOT_READY)["problem_details"]
    assert (seen["code"], "does not apply to" in seen["problem"]) == ("object-changed", True)
    assert confcom.document(*change)["changed"]
    assert "matchResources" not in enabled.api.find(BINDING, "confcom-pods")[0]["spec"]
    assert not [path for method, path in enabled.api.writes if method == "DELETE" and "admission" in path]
    assert confcom.document("status")["ok"]


def refuse_applies(cluster, kind, name):
    """Let the API server refuse an apply to this object; return a function that says if the object exists."""
    (before,) = cluster.api.find(kind, name)
    uid = before["metadata"].setdefault("uid", "before")

    def stays():
        return [one["metadata"].get("uid") for one in cluster.api.find(kind, name)] == [uid]

    def refused(request):
        return request.method == "PATCH" and request.url.path.endswith(f"/{plural(kind)}/{name}") and stays()

    cluster.api.refuse(refused, 422, f'{kind} "{name}" is invalid: spec.x: Duplicate value')
    return stays


def test_an_object_that_no_apply_can_mend_is_deleted_for_helm_to_make(confcom, enabled, change):
    stays = refuse_applies(enabled, "NetworkPolicy", "confcom")
    enabled.api.refuse(
        lambda request: request.method == "PUT" and "networkpolicies" in request.url.path, 422, "immutable"
    )
    assert "Deleted the NetworkPolicy confcom" in confcom.ok(*change).stderr
    assert not stays()
    assert enabled.api.find("NetworkPolicy", "confcom")


def test_an_interrupted_change_is_undone_also_where_no_apply_can_mend(confcom, enabled):
    enabled.helm.fail("upgrade", "killed", status="pending-upgrade")
    confcom.error(ExitCode.FAILED, "helm-failed", "update", "--set", "logLevel=debug")
    enabled.sleep(61)
    stays = refuse_applies(enabled, "ServiceAccount", HELPER)
    confcom.ok(*ENABLE)
    assert enabled.helm_changes()[-1] == "rollback"
    assert not stays()


def test_a_daemon_set_that_no_apply_can_mend_is_left_to_a_person(confcom, enabled, change):
    refuse_applies(enabled, "DaemonSet", HELPER)
    state = enabled.state()
    error = confcom.error(ExitCode.REFUSED, "object-not-mendable", *change)
    assert f"kubectl delete daemonset/{HELPER} --namespace={make.SYSTEM} --cascade=orphan" in error["do"]
    assert enabled.state() == state
    enabled.api.remove("DaemonSet", HELPER)
    confcom.ok(*change)


def test_values_that_the_api_server_refuses_delete_nothing(confcom, enabled):
    refuse_applies(enabled, "ServiceAccount", HELPER)
    creates = ("POST", "serviceaccounts")
    enabled.api.refuse(lambda one: (one.method, one.url.path.rpartition("/")[2]) == creates, 422, "it is invalid")
    state = enabled.state()
    confcom.error(ExitCode.UNAVAILABLE, "object-invalid", *ENABLE)
    assert enabled.state() == state


def test_nothing_is_called_restored_before_helm_has_ended(confcom, enabled):
    enabled.api.remove("ServiceAccount", HELPER)
    enabled.helm.fail("upgrade", "Error: UPGRADE FAILED: no", status="failed")
    failed = confcom(*ENABLE)
    assert (failed.exit_code, "Restored" in failed.stderr) == (ExitCode.FAILED, False)
    problems = confcom.document("status", exit_code=ExitCode.NOT_READY)["problem_details"]
    assert {one["code"] for one in problems} == {"change-unfinished", "object-missing"}
    confcom.ok(*ENABLE)
    enabled.api.remove("ServiceAccount", HELPER)
    assert f"Restored: ServiceAccount {HELPER}" in confcom.ok(*ENABLE).stderr


def test_a_missing_root_is_made_anew_only_where_that_is_said(confcom, enabled):
    """The command first restarts the daemons that use the root; the daemons wait for the new root."""
    made = golden_manifests("placement", make.SYSTEM)
    (served,) = [one for one in made if (one["kind"], one["metadata"]["name"]) == ("Deployment", PCS)]
    enabled.api.put(served)
    enabled.api.remove("Secret", DEFAULT_SECRET)
    for command in (ENABLE, ("update", "--set", "logLevel=debug"), ("update", "--dry-run")):
        found = findings_of(confcom.document(*command, exit_code=ExitCode.REFUSED))
        assert ("failed", "simulated-root-missing") in found.values()
    assert not enabled.api.find("Secret", DEFAULT_SECRET)
    enabled.api.writes.clear()
    assert confcom.document(*ENABLE, "--new-root")["changed"]
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


GARBAGE = {"seed": "eA=="}
OTHER = make.root_secret(seed=bytes(31) + b"1")["data"]
EXPIRED, FUTURE = (make.root_secret(created=when)["data"] for when in (0, 9_999_999_999))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (GARBAGE, "simulated-root-unusable"),
        (EXPIRED, "simulated-root-unusable"),
        (FUTURE, "simulated-root-unusable"),
        (OTHER, "simulated-roots-differ"),
    ],
)
def test_a_changed_root_is_told_by_every_command_and_spread_by_none(confcom, enabled, tmp_path, data, code):
    confcom.ok("update", "--set", "logLevel=debug")
    before = enabled.api.find("Secret", DEFAULT_SECRET)[0]["data"]
    enabled.api.find("Secret", DEFAULT_SECRET)[0]["data"] = data
    told = confcom.document("status", exit_code=ExitCode.NOT_READY)
    assert code in [one["code"] for one in told["problem_details"]]
    for command in ("update", "rollback", "enable"):
        found = confcom.document(command, exit_code=ExitCode.REFUSED)["findings"]
        assert ("failed", code) in [(one["outcome"], one["code"]) for one in found]
    error = confcom.document("simulation", "export", tmp_path / "out", exit_code=ExitCode.UNUSABLE)["error"]
    assert error["code"] == "simulated-root-unusable" if data is GARBAGE else code
    assert not (tmp_path / "out").exists()
    enabled.api.find("Secret", DEFAULT_SECRET)[0]["data"] = before
    confcom.ok("simulation", "export", tmp_path / "out")
    confcom.ok("rollback")


def test_a_replaced_root_is_accepted_where_that_is_said(confcom, enabled):
    enabled.api.find("Secret", DEFAULT_SECRET)[0]["data"] = OTHER
    confcom.ok(*ENABLE, "--new-root")
    enabled.api.find("Secret", DEFAULT_SECRET)[0]["data"] = GARBAGE
    assert confcom(*ENABLE, "--new-root").exit_code == ExitCode.REFUSED


def test_an_export_says_whose_root_it_did_not_compare(confcom, enabled, tmp_path):
    for page in list(enabled.api.pages):
        enabled.api.pages.pop(page)
    assert "not compared with that of a" in confcom.ok("simulation", "export", tmp_path / "out").stderr


def test_without_helms_record_enable_removes_what_it_does_not_need(confcom, enabled):
    made = golden_manifests("placement", make.SYSTEM)
    (served,) = [one for one in made if (one["kind"], one["metadata"]["name"]) == ("Deployment", PCS)]
    helms = {"meta.helm.sh/release-name": "confcom", "meta.helm.sh/release-namespace": make.SYSTEM}
    served["metadata"]["annotations"] = helms
    mine = {**served, "metadata": {**served["metadata"], "name": "mine", "annotations": {}}}
    enabled.api.put(served)
    enabled.api.put(mine)
    enabled.helm.revisions.clear()
    told = confcom.document("status", exit_code=ExitCode.NOT_READY)
    assert "release-missing" in [one["code"] for one in told["problem_details"]]
    confcom.error(ExitCode.REFUSED, "release-missing", "update")
    would = confcom.document(*ENABLE, "--dry-run")["would_change"]
    assert ("Deployment", PCS, "removed") in [(one["kind"], one["name"], one["effect"]) for one in would]
    assert confcom.document(*ENABLE)["changed"]
    assert not enabled.api.find("Deployment", PCS)
    assert confcom.document("status")["problem_details"] == []
    assert enabled.api.find("Deployment", "mine"), "what helm did not install belongs to people"


def test_pods_that_lose_their_quotes_are_named_before_a_change(confcom, enabled):
    enabled.api.put(make.pod("job", on="a", limits={EPC: 10}))
    found = findings_of(confcom.document("enable", "--no-quote-helper", "--dry-run"))
    assert ("warning", "pods-lose-quotes") in found.values()
    assert "default/job on a" in confcom("enable", "--no-quote-helper", "--dry-run").stderr
    (node,) = enabled.api.find("Node", "a")
    node["metadata"]["labels"] = {}
    node["metadata"]["managedFields"] = [make.writes_of({EPC})]  # what the controller wrote goes with the daemons
    assert "default/job on a" in confcom("update", "--dry-run").stderr
    node["metadata"]["managedFields"], node["status"]["allocatable"][EPC] = [], "0"
    assert "default/job on a" in confcom("update", "--dry-run").stderr
