"""`confcom disable` on a cluster in memory, whose kubelets keep resources for five minutes as real ones do."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from confcom.addon.chart_objects import OURS
from confcom.addon.helm import Helm, Values
from confcom.addon.simulated_root import DEFAULT_SECRET
from confcom.errors import ExitCode
from testkit import cluster_objects as make
from testkit.cli_output import error_of, finding_of, findings_of
from testkit.cluster_objects import ENCLAVE, EPC, HELPER_EPC, PROVISION, SYSTEM
from testkit.memory_cluster import START, MemoryCluster

LEASE = ("Lease", "confcom-change")


def a_secret(name=DEFAULT_SECRET, component="simulated-root"):
    metadata = {"name": name, "namespace": SYSTEM, "labels": make.labels(component)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"seed": "c2VlZA=="}}


@pytest.fixture
def cluster():
    """Node `a` simulates, `b` has no SGX."""
    return MemoryCluster([make.node("a", make.SIMULATED), make.node("b")])


@pytest.fixture
def enabled(cluster):
    Helm(cluster.add_on().cluster, cluster.helm).upgrade(Path("chart"), Values())
    cluster.api.put(a_secret())
    cluster.api.writes.clear()
    return cluster


def disabled(cluster, *options):
    """The document of a run that succeeds."""
    done = cluster.run("disable", "-o", "json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def failure(cluster, exit_code, code, *options):
    """The error of a run that fails."""
    done = cluster.run("disable", "-o", "json", *options)
    assert done.exit_code == exit_code, done.output
    error = error_of(done)
    assert error["code"] == code
    return error


def keys(cluster):
    parts = ("capacity", "allocatable")
    return OURS & {key for node in cluster.api.find("Node") for part in parts for key in node["status"][part]}


def test_nothing_stays_but_the_root_the_namespace_and_the_label(enabled):
    assert keys(enabled)
    document = disabled(enabled)
    assert enabled.names() == {
        ("Node", "a"),
        ("Node", "b"),
        ("Namespace", "default"),
        ("Namespace", SYSTEM),
        ("Secret", DEFAULT_SECRET),
    }
    assert not keys(enabled)
    assert 300 <= enabled.time <= 315
    secret, namespace, label = document["kept"]
    assert f"kubectl delete secret -n {SYSTEM} {DEFAULT_SECRET}" in secret
    assert f"kubectl delete namespace {SYSTEM}" in namespace
    assert "confcom.internal/simulated-sgx on a " in label
    assert (document["removed"], document["leftovers"]) == (True, {})
    assert document["cluster"]["context"] == "test"


def test_bindings_go_before_their_policies_and_both_before_the_daemons(enabled):
    enabled.helm.fail("uninstall", "Error: uninstall: boom")
    error = failure(enabled, ExitCode.FAILED, "helm-failed")
    deleted = [path.rpartition("/")[0].rpartition("/")[2] for method, path in enabled.api.writes if method == "DELETE"]
    assert list(dict.fromkeys(deleted)) == [
        "mutatingadmissionpolicybindings",
        "mutatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicies",
    ]
    assert "boom" in error["why"]
    assert "the same command" in error["do"]
    assert enabled.api.find("DaemonSet")
    assert disabled(enabled)["removed"] is True
    assert not enabled.api.find("DaemonSet")


def test_without_waiting_a_second_run_finishes(enabled):
    """The controller's key goes at once."""
    enabled.api.find("Node", "a")[0]["metadata"]["managedFields"] = [make.writes_of([EPC])]
    document = disabled(enabled, "--no-wait")
    assert enabled.time <= 60
    assert set(document["leftovers"]["a"]) == keys(enabled) == {ENCLAVE, PROVISION, HELPER_EPC}
    enabled.sleep(600)
    second = disabled(enabled)
    assert (second["removed"], second["leftovers"], second["kept"]) == (False, {}, document["kept"])
    assert not keys(enabled)
    assert LEASE not in enabled.names()


@pytest.mark.parametrize("moment", [pytest.param(1, id="Pods end"), pytest.param(100, id="kubelets keep resources")])
def test_an_interruption_leaves_what_a_second_run_finishes(enabled, moment):
    def wait():
        if enabled.time >= 50:
            enabled.api.remove("Pod", "slow")
        if moment <= enabled.time < moment + 2:
            raise KeyboardInterrupt

    enabled.api.put(make.pod("slow", namespace=SYSTEM, labels=make.labels("quote-helper")))
    enabled.each = wait
    assert failure(enabled, ExitCode.INTERRUPTED, "interrupted")["do"].startswith("run the same command again")
    enabled.time += 5
    assert disabled(enabled)["removed"] is False
    assert not keys(enabled)
    assert enabled.names().isdisjoint({LEASE, ("Pod", "slow")})


def test_a_release_that_was_being_removed_is_removed(enabled):
    enabled.helm.revisions[-1]["status"] = "uninstalling"
    enabled.sleep(120)
    assert disabled(enabled, "--no-wait")["removed"] is True


@pytest.mark.parametrize(
    ("secrets", "kept"),
    [
        pytest.param([], [], id="none"),
        pytest.param([a_secret()], [DEFAULT_SECRET], id="the chart's default"),
        pytest.param([a_secret(component="")], [DEFAULT_SECRET], id="without labels"),
        pytest.param([a_secret("other", "x")], [], id="another Secret"),
    ],
)
def test_roots_that_are_kept_are_named_without_their_seeds(cluster, secrets, kept):
    for one in secrets:
        cluster.api.put(one)
    document = disabled(cluster)
    assert document["removed"] is False
    assert [one.split()[2].strip(",").partition("/")[2] for one in document["kept"] if "Secret" in one] == kept
    assert cluster.helm.calls
    assert not [path for method, path in cluster.api.writes if "leases" not in path]


def test_a_namespace_that_does_not_exist_is_no_obstacle(cluster):
    assert disabled(cluster, "--namespace", "nowhere")["removed"] is False
    assert cluster.api.writes == []


def test_with_workloads_it_wants_consent(enabled):
    """A tenant's Pod with our labels is a workload too; one that has ended is none."""
    for number in range(11):
        enabled.api.put(make.pod(f"job-{number:02}", on="a", owner=("Job", "job"), limits={EPC: 10}))
    enabled.api.put(make.pod("sly", on="a", labels=make.labels("quote-helper"), limits={EPC: 10}))
    enabled.api.put(make.pod("done", on="a", limits={EPC: 10}, status={"phase": "Succeeded"}))
    done = enabled.run("disable", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert error_of(done)["code"] == "no-consent"
    assert "12 Pods" in done.stderr
    assert "  default/job-00 on a, of Job job\n" in done.stderr
    assert "job-09" in done.stderr
    assert "job-10" not in done.stderr
    assert "2 more" in done.stderr
    assert "done" not in done.stderr
    assert enabled.helm.revisions
    assert enabled.api.find("ValidatingAdmissionPolicy")
    assert disabled(enabled, "--yes", "--no-wait")["removed"] is True


def test_permissions_come_first(enabled):
    enabled.api.put(make.pod("job", on="a", limits={EPC: 10}))
    enabled.api.denied = {("patch", "nodes/status"), ("delete", "daemonsets")}
    done = enabled.run("disable", "-o", "json")
    document = json.loads(done.stdout)
    assert done.exit_code == ExitCode.REFUSED
    assert findings_of(document) == {"permissions": ("failed", "permissions-missing")}
    why = finding_of(document, "permissions")["why"]
    assert "patch nodes/status" in why
    assert f"delete daemonsets.apps in {SYSTEM}" in why
    assert enabled.api.writes == []
    assert enabled.helm.revisions


@pytest.mark.parametrize(
    "namespace", [pytest.param(SYSTEM, id="manifests without helm"), pytest.param("other", id="another namespace")]
)
def test_foreign_installations_are_left_alone(cluster, namespace):
    cluster.api.put(make.daemon_set("device-plugin", namespace=namespace))
    error = failure(cluster, ExitCode.REFUSED, "not-enabled")
    assert error["why"].endswith(f" {namespace}")
    assert cluster.api.writes == []


def held_by_another(cluster):
    renewed = (START + timedelta(seconds=cluster.time)).isoformat()
    spec = {"holderIdentity": "update by ann", "renewTime": renewed}
    metadata = {"name": LEASE[1], "namespace": SYSTEM}
    cluster.api.put({"apiVersion": "coordination.k8s.io/v1", "kind": LEASE[0], "metadata": metadata, "spec": spec})


def changed_by_helm(cluster):
    cluster.helm.revisions[-1] |= {"status": "pending-upgrade", "updated": cluster.now().isoformat()}


@pytest.mark.parametrize(("begin", "words"), [(held_by_another, "update by ann"), (changed_by_helm, "pending-upgrade")])
def test_another_change_is_not_disturbed(enabled, begin, words):
    begin(enabled)
    assert words in failure(enabled, ExitCode.REFUSED, "change-running")["why"]
    assert enabled.helm.revisions
    assert enabled.api.find("ValidatingAdmissionPolicy")


def test_the_lease_is_held_to_the_end(enabled):
    held = []

    def look():
        (lease,) = enabled.api.find(*LEASE)
        held.append(lease["spec"]["holderIdentity"].startswith("disable by "))

    enabled.each = look
    disabled(enabled)
    assert len(held) > 100
    assert all(held)
    assert LEASE not in enabled.names()


def test_pods_that_do_not_end(enabled):
    enabled.api.put(make.pod("stuck", namespace=SYSTEM, labels=make.labels("quote-helper")))
    enabled.api.put(make.pod("tenants", labels=make.labels("quote-helper")))
    error = failure(enabled, ExitCode.NOT_READY, "pods-not-terminated")
    assert error["what"].startswith("stuck did not end")
    assert 120 <= enabled.time < 125


@pytest.mark.parametrize("options", [[], ["--no-wait"]])
def test_the_api_server_may_be_away_after_the_removal(enabled, options):
    uninstall = enabled.helm._uninstall

    def leave(*arguments):
        uninstall(*arguments)
        enabled.api.unreachable = True

    enabled.helm._uninstall = leave
    enabled.each = lambda: setattr(enabled.api, "unreachable", enabled.time < 20)
    assert disabled(enabled, *options)["removed"] is True
    assert bool(keys(enabled)) is bool(options)
