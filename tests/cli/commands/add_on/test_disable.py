"""`confcom disable` on a cluster in memory, whose kubelets keep resources for five minutes as real ones do."""

import json

import pytest

from confcom.addon.status.stale_resources import FOREIGN_AFTER_SECONDS, Stage
from confcom.errors import ExitCode
from testkit.cli_output import error_of, finding_of, findings_of, rows_of
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.cluster import words_and_flags
from testkit.fake_cluster.objects import ENCLAVE, EPC, HELPER_EPC, PROVISION, SYSTEM

OURS = {EPC, ENCLAVE, HELPER_EPC, PROVISION}


def status_keys(cluster):
    return {
        key for node in cluster.find("Node") for part in ("capacity", "allocatable") for key in node["status"][part]
    }


def once_removed(cluster, act):
    """Do this at every moment at which the release is not there any more."""
    cluster.on_tick = lambda _: cluster.revisions or act()


def silence(cluster, node):
    cluster.node(node)["status"]["conditions"][0]["status"] = "Unknown"


def test_nothing_stays_but_the_roots_secret(confcom, enabled):
    before = {(one["kind"], one["metadata"]["name"]) for one in enabled.objects}
    started = enabled.now
    kept = confcom.document("disable")["kept"]
    left = {(one["kind"], one["metadata"]["name"]) for one in enabled.objects}
    assert {kind for kind, _ in before - left} >= {"DaemonSet", "Pod", "ValidatingAdmissionPolicy"}
    assert left == {
        ("Node", "a"),
        ("Node", "b"),
        ("Namespace", "default"),
        ("Namespace", SYSTEM),
        ("Secret", "confcom-simulated-platform"),
        ("ConfigMap", "confcom-simulated-root"),
    }
    assert not status_keys(enabled) & OURS
    assert 300 <= enabled.now - started < 330
    secret, namespace, label = kept
    assert f"kubectl delete secret -n {SYSTEM} confcom-simulated-platform" in secret
    assert f"kubectl delete namespace {SYSTEM}" in namespace
    assert "confcom.internal/simulated-sgx on a " in label


def test_policies_go_first_and_a_zero_is_never_written(confcom, enabled):
    """A binding goes before its policy, and both before the daemons."""
    confcom("disable")
    changing = [words_and_flags(line)[0][:3] for line in enabled.calls if line[1] in {"delete", "uninstall"}]
    assert changing[:3] == [
        ["kubectl", "delete", "ValidatingAdmissionPolicyBinding"],
        ["kubectl", "delete", "ValidatingAdmissionPolicy"],
        ["helm", "uninstall", "confcom"],
    ]
    patches = [json.loads(word[8:]) for line in enabled.calls for word in line if word.startswith("--patch=")]
    assert patches
    assert {step["op"] for patch in patches for step in patch} == {"test", "remove"}


def test_without_waiting_a_second_call_finishes(confcom, enabled):
    assert set(confcom.document("disable", "--no-wait")["leftovers"]["a"]) == OURS
    assert status_keys(enabled) >= OURS
    enabled.sleep(600)
    document = confcom.document("disable")
    assert document == {"removed": False, "kept": document["kept"], "leftovers": {}}
    assert not status_keys(enabled) & OURS


def test_disabled_already(confcom, cluster):
    assert confcom.document("disable")["removed"] is False
    assert not [line for line in cluster.calls if line[1] in {"uninstall", "delete"}]


def test_with_workloads_it_wants_consent(confcom, enabled):
    """A tenant's Pod with our labels is a workload too."""
    enabled.objects.append(make.pod("job-1", on="a", owner=("Job", "job"), limits={EPC: 10}))
    enabled.objects.append(make.pod("sly", on="a", labels=make.labels("quote-helper"), limits={EPC: 10}))
    done = confcom("disable", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    assert error_of(done)["code"] == "no-consent"
    assert "  default/job-1 on a, of Job job\n" in done.stderr
    assert "default/sly on a" in done.stderr
    assert enabled.revisions
    assert enabled.find("ValidatingAdmissionPolicy")
    assert "default/job-1" in confcom.ok("disable", "--yes", "--no-wait").stderr
    assert not enabled.revisions


def test_another_plugin_that_took_over_is_told(confcom, enabled):
    def take_over():
        for part in ("capacity", "allocatable"):
            enabled.node("a")["status"][part][EPC] = "28"

    enabled._kubelet = lambda _: None
    once_removed(enabled, take_over)
    started = enabled.now
    done = confcom.ok("disable")
    assert enabled.now - started < FOREIGN_AFTER_SECONDS + 20
    assert f" a: {', '.join(sorted(OURS))}, " in done.stderr
    assert enabled.node("a")["status"]["capacity"][EPC] == "28"


DENIAL = 'Error from server (Forbidden): admission webhook "guard.example.com" denied the request: not by people'


@pytest.fixture
def guarded(enabled):
    """A webhook denies changes of the status of some nodes until a time; permissions say nothing of it."""
    patch = enabled._kubectl_patch

    def guard(*nodes, until=float("inf")):
        def refuse(words, *more):
            denies = words[1] in nodes and enabled.now < until
            return (1, "", DENIAL) if denies else patch(words, *more)

        enabled._kubectl_patch = refuse

    return guard


def add_nodes(cluster, *names):
    """Each with a plugin that serves."""
    cluster.objects += [make.node(name, make.SIMULATED) for name in names]
    cluster.settle()


def denials(done):
    """The nodes that are shown with the webhook's denial, as often as they are."""
    return sorted(node for mark, node, state in rows_of(done) if mark == "!!" and state.endswith(DENIAL))


def test_what_refuses_to_clean_a_node_is_shown(confcom, enabled, guarded):
    add_nodes(enabled, "c", "d")
    guarded("a", "d")
    done = confcom("disable", "-o", "json")
    assert done.exit_code == ExitCode.NOT_READY
    names = ", ".join(sorted(OURS))
    assert denials(done) == ["a", "d"]
    assert ("..", "c", f"{Stage.DEAD}: {names}") in rows_of(done)
    error = error_of(done)
    assert error["code"] == "resources-left-on-nodes"
    assert error["why"].startswith(f"a: {names}, {Stage.DEAD}; d: {names}, {Stage.DEAD}; ")
    assert error["why"].endswith(f" a, d: {DENIAL}")
    assert "nodes/status" in error["do"]


def test_a_silent_kubelet_beside_a_refusal(confcom, enabled, guarded):
    add_nodes(enabled, "quiet")
    guarded("a")

    once_removed(enabled, lambda: silence(enabled, "quiet"))
    error = confcom.error(ExitCode.NOT_READY, "resources-left-on-nodes", "disable")
    assert error["why"].endswith(f" a: {DENIAL}")
    assert f"quiet: {', '.join(sorted(OURS))}, {Stage.SILENT}; " in error["why"]
    webhook, kubelets = error["do"].split("; ")
    assert "nodes/status" in webhook
    assert "nodes/status" not in kubelets


def test_pods_that_do_not_end(confcom, enabled):
    stuck = make.pod("confcom-x", namespace=SYSTEM, on="a", labels=make.labels("quote-helper", instance="held"))
    enabled.objects.append(stuck)
    assert "confcom-x" in confcom.error(ExitCode.NOT_READY, "pods-not-terminated", "disable")["what"]


def test_an_installation_without_helm_is_left_alone(confcom, cluster):
    cluster.objects.append(make.daemon_set("device-plugin"))
    confcom.error(ExitCode.REFUSED, "not-installed-by-helm", "disable")
    assert cluster.find("DaemonSet")


def test_a_foreign_answer_is_not_taken_for_clean_nodes(confcom, enabled):
    get = enabled._kubectl_get
    enabled._kubectl_get = lambda words, *more: (0, "null", "") if words == ["nodes"] else get(words, *more)
    done = confcom("disable", "-o", "json")
    assert done.exit_code == ExitCode.UNAVAILABLE
    assert error_of(done)["code"] == "output-not-readable"
    assert ("!!", "API server") in {row[:2] for row in rows_of(done)}
    assert status_keys(enabled) >= OURS


def test_permissions(confcom, enabled):
    enabled.denied = {"patch nodes/status", "delete daemonsets"}
    document = confcom.document("disable", exit_code=ExitCode.REFUSED)
    assert findings_of(document) == {"permissions": ("failed", "permissions-missing")}
    assert finding_of(document, "permissions")["why"].endswith(
        f": patch nodes/status; delete daemonsets.apps in {SYSTEM}"
    )
    assert enabled.revisions


@pytest.mark.parametrize("options", [[], ["--no-wait"]])
def test_the_api_server_may_be_away_after_the_removal(confcom, enabled, options):
    enabled.leave_after("uninstall", 20)
    assert "The connection to the server 10.0.0.1:6443 was refused" in confcom.ok("disable", *options).stderr
    assert not enabled.find("Pod", namespace=SYSTEM)
    assert bool(status_keys(enabled) & OURS) is bool(options)
