import pytest

from confcom.addon.chart_objects import REMOVAL_ANNOTATION
from confcom.addon.disable import POD_TERMINATION_SECONDS, disable
from confcom.addon.simulated_root import DEFAULT_SECRET
from confcom.errors import ExitCode
from confcom.kubernetes.names import OURS, Component, component
from testkit import cluster_objects as make
from testkit.cli_output import error_of, finding_of
from testkit.cluster_objects import ENCLAVE, EPC, HELPER_EPC, PROVISION, SYSTEM


@pytest.fixture
def disabled(confcom):
    return lambda *options: confcom.document("disable", *options)


def keys(cluster):
    parts = ("capacity", "allocatable")
    return OURS & {key for node in cluster.api.find("Node") for part in parts for key in node["status"][part]}


def test_nothing_stays_but_the_root_the_namespace_and_the_label(enabled, disabled):
    """The command keeps its Lease until the command ends."""
    begun, holders = enabled.time, []
    enabled.each = lambda: holders.extend(one["spec"]["holderIdentity"] for one in enabled.api.find("Lease"))
    assert keys(enabled)
    document = disabled()
    assert enabled.names() == {
        ("Node", "a"),
        ("Node", "b"),
        ("Namespace", "default"),
        ("Namespace", SYSTEM),
        ("Secret", DEFAULT_SECRET),
    }
    assert not keys(enabled)
    assert 300 <= enabled.time - begun <= 315
    assert len(holders) > 100
    assert all(one.startswith("disable by ") for one in holders)
    secret, namespace, label = document["kept"]
    assert f"kubectl delete secret -n {SYSTEM} {DEFAULT_SECRET}" in secret
    assert f"kubectl delete namespace {SYSTEM}" in namespace
    assert "confcom.internal/simulated-sgx on a " in label
    assert (document["removed"], document["leftovers"]) == (True, {})
    assert document["cluster"]["context"] == "test"


def test_a_helper_that_ends_late_adds_nothing_to_the_kubelets_time(enabled, disabled):
    begun = enabled.time
    enabled.api.put(make.pod("slow", namespace=SYSTEM, labels=make.labels("quote-helper")))
    enabled.each = lambda: enabled.time > begun + 24 and enabled.api.remove("Pod", "slow")
    disabled()
    assert not keys(enabled)
    assert 300 <= enabled.time - begun <= 315


def marks(cluster):
    """For each daemon Pod, a pair: the Pod's component and the value of its removal annotation."""
    return {
        (component(pod["metadata"]["labels"]), pod["metadata"].get("annotations", {}).get(REMOVAL_ANNOTATION))
        for pod in cluster.api.find("Pod")
    }


@pytest.mark.parametrize("allowed", [True, False])
def test_helpers_are_marked_before_they_are_removed(enabled, allowed):
    """If the command may not patch Pods, it warns of the consequences and continues."""
    enabled.api.denied = set() if allowed else {("patch", "pods")}
    unmarked, found = marks(enabled), []
    assert {component for component, _ in unmarked} >= {Component.QUOTE_HELPER, Component.DEVICE_PLUGIN}
    uninstall = enabled.helm._uninstall

    def look(*arguments):
        found.extend(marks(enabled))
        return uninstall(*arguments)

    enabled.helm._uninstall = look
    assert disable(enabled.add_on(), consent=lambda _: True, wait=True).removed
    marked = {component for component, mark in found if mark}
    assert marked == ({Component.QUOTE_HELPER} if allowed else set())
    assert [one.code for one in enabled.recorder.found] == ([] if allowed else ["removal-not-marked"])


def test_bindings_go_before_their_policies_and_both_before_the_daemons(enabled, confcom):
    enabled.helm.fail("uninstall", "Error: uninstall: boom")
    confcom.error(ExitCode.FAILED, "helm-failed", "disable")
    deleted = [path.rpartition("/")[0].rpartition("/")[2] for method, path in enabled.api.writes if method == "DELETE"]
    assert list(dict.fromkeys(deleted)) == [
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicies",
    ]
    assert enabled.api.find("DaemonSet")


def test_without_waiting_a_second_run_finishes(enabled, disabled):
    """The command removes the controller's key at once, but still waits for a Pod that ends slowly."""
    begun = enabled.time
    enabled.api.put(make.pod("slow", namespace=SYSTEM, labels=make.labels("quote-helper")))
    enabled.each = lambda: enabled.time > begun + 5 and enabled.api.remove("Pod", "slow")
    enabled.api.find("Node", "a")[0]["metadata"]["managedFields"] = [make.writes_of([EPC])]
    document = disabled("--no-wait")
    assert 5 < enabled.time - begun <= 60
    assert set(document["leftovers"]["a"]) == keys(enabled) == {ENCLAVE, PROVISION, HELPER_EPC}
    enabled.sleep(600)
    second = disabled()
    assert (second["removed"], second["leftovers"], second["kept"]) == (False, {}, document["kept"])
    assert not keys(enabled)
    assert not enabled.api.find("Lease")


def test_names_that_stay_on_a_node_are_shown(enabled, confcom):
    (line,) = [line for line in confcom.ok("disable", "--yes", "--no-wait").stdout.splitlines() if "a's status" in line]
    assert all(name in line for name in (ENCLAVE, PROVISION, HELPER_EPC))


@pytest.mark.parametrize("namespace", ["default", "nowhere"])
def test_without_the_add_on_nothing_is_removed(cluster, disabled, namespace):
    document = disabled("--namespace", namespace)
    assert document["removed"] is False
    assert not [one for one in document["kept"] if "Secret" in one]
    assert not [path for _, path in cluster.api.writes if "leases" not in path or namespace == "nowhere"]


def test_with_workloads_it_wants_consent(enabled, confcom, disabled):
    """A tenant's Pod with our labels is a workload too, but a Pod that has ended is none."""
    for number in range(11):
        enabled.api.put(make.pod(f"job-{number:02}", on="a", owner=("Job", "job"), limits={EPC: 10}))
    enabled.api.put(make.pod("sly", on="a", labels=make.labels("quote-helper"), limits={EPC: 10}))
    enabled.api.put(make.pod("done", on="a", limits={EPC: 10}, status={"phase": "Succeeded"}))
    before = enabled.state()
    done = confcom("disable", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert error_of(done)["code"] == "no-consent"
    assert "12 Pods" in done.stderr
    assert "  default/job-00 on a, of Job job\n" in done.stderr
    assert "job-09" in done.stderr
    assert "job-10" not in done.stderr
    assert "2 more" in done.stderr
    assert "done" not in done.stderr
    assert enabled.state() == before
    assert disabled("--yes", "--no-wait")["removed"] is True


def test_permissions_come_first(enabled, confcom):
    enabled.api.put(make.pod("job", on="a", limits={EPC: 10}))
    enabled.api.denied = {("patch", "nodes/status"), ("delete", "daemonsets")}
    before = enabled.state()
    finding = finding_of(confcom.document("disable", exit_code=ExitCode.REFUSED), "permissions")
    assert (finding["outcome"], finding["code"]) == ("failed", "permissions-missing")
    assert "patch nodes/status" in finding["why"]
    assert f"delete daemonsets.apps in {SYSTEM}" in finding["why"]
    assert enabled.state() == before


def test_foreign_installations_are_left_alone(cluster, confcom):
    cluster.api.put(make.daemon_set("device-plugin", namespace="other"))
    assert confcom.error(ExitCode.REFUSED, "not-enabled", "disable")["why"].endswith(" other")
    assert cluster.api.writes == []


@pytest.mark.parametrize("namespace", ["there", "terminating", "gone"])
def test_without_helms_record_what_is_left_is_found_by_its_labels(enabled, confcom, disabled, namespace):
    """A user's objects stay if they lack one of our labels; so do objects of another namespace's release."""
    others = (make.role("mine", {"app.kubernetes.io/name": "confcom"}), make.role("theirs", make.labels("x"), "other"))
    for one in others:
        enabled.api.put(one)
    enabled.helm.revisions.clear()
    if namespace == "terminating":
        enabled.api.find("Namespace", SYSTEM)[0]["status"] = {"phase": "Terminating"}
        enabled.api.remove("Lease", "confcom-change", SYSTEM)
        enabled.api.refuse(lambda request: request.method == "POST" and "leases" in str(request.url), 403, "it goes")
    if namespace == "gone":
        enabled.api.remove("Namespace", SYSTEM)
        for one in [one for one in enabled.api.objects if one["metadata"].get("namespace") == SYSTEM]:
            enabled.api.objects.remove(one)
    told = confcom.document("status", exit_code=ExitCode.NOT_READY)["problem_details"]
    assert "release-missing" in [one["code"] for one in told]
    assert disabled("--yes")["removed"] is True
    kinds = {kind for kind, _ in enabled.names()} - {"Node", "Namespace", "Secret"}
    assert kinds == {"ClusterRole"}
    assert {one["metadata"]["name"] for one in enabled.api.find("ClusterRole")} == {"mine", "theirs"}
    assert not keys(enabled)


def test_each_10_seconds_it_says_what_it_waits_for(enabled, confcom):
    begun = enabled.time
    enabled.api.put(make.pod("slow", namespace=SYSTEM, labels=make.labels("quote-helper")))
    enabled.each = lambda: enabled.time > begun + 45 and enabled.api.remove("Pod", "slow")
    lines = confcom.ok("disable", "--no-wait").stderr.splitlines()
    assert len([line for line in lines if "waiting for the end of slow" in line]) == 4


def test_pods_that_do_not_end(enabled, confcom):
    enabled.api.put(make.pod("stuck", namespace=SYSTEM, labels=make.labels("quote-helper")))
    enabled.api.put(make.pod("tenants", labels=make.labels("quote-helper")))
    begun = enabled.time
    error = confcom.error(ExitCode.NOT_READY, "pods-not-terminated", "disable")
    assert error["what"].startswith("stuck did not end")
    assert POD_TERMINATION_SECONDS <= enabled.time - begun < POD_TERMINATION_SECONDS + 10


@pytest.mark.parametrize("options", [[], ["--no-wait"]])
def test_the_api_server_may_be_away_after_the_removal(enabled, disabled, options):
    uninstall, begun = enabled.helm._uninstall, enabled.time

    def leave(*arguments):
        uninstall(*arguments)
        enabled.api.unreachable = True

    enabled.helm._uninstall = leave
    enabled.each = lambda: setattr(enabled.api, "unreachable", enabled.time < begun + 20)
    assert disabled(*options)["removed"] is True
    assert bool(keys(enabled)) is bool(options)
