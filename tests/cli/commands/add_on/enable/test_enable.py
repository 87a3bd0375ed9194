"""`confcom enable` on a cluster in memory."""

import json

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import rows_of
from testkit.fake_cluster.objects import EPC, SYSTEM


def test_enable_waits_until_every_node_is_ready(confcom, cluster):
    done = confcom.ok("enable", "--simulated", "-o", "json")
    result = json.loads(done.stdout)
    assert (result["changed"], result["revision"]) == (True, 1)
    steps = {(one["node"], one["step"]): one["state"] for one in result["nodes"]}
    assert steps == {
        ("a", "device plugin"): "ready (0.1.0)",
        ("a", "quote helper"): "ready (0.1.0)",
        ("a", "enclave memory"): f"162 MiB as {EPC}",
    }
    rows = [row[:3] for row in rows_of(done)]
    for _, step in steps:
        assert rows.index(("..", "a", step)) < rows.index(("ok", "a", step))


def test_enable_again_changes_nothing(confcom, enabled):
    before = enabled.changes
    assert confcom.document("enable", "--simulated")["changed"] is False
    assert len(enabled.revisions) == 1
    assert enabled.changes == before


def test_who_may_not_look_at_what_is_installed_is_told(confcom, enabled):
    get = enabled._kubectl_get
    refused = (1, "", 'Error from server (Forbidden): serviceaccounts "x" is forbidden: User "eve" cannot get')
    enabled._kubectl_get = lambda words, flags, stdin: refused if "filename" in flags else get(words, flags, stdin)
    assert 'serviceaccounts "x" is forbidden' in confcom.ok("enable", "--simulated").stderr
    assert len(enabled.revisions) == 1


def test_enable_keeps_earlier_choices(confcom, cluster):
    confcom("enable", "--simulated", "--set", "logLevel=debug")
    confcom.ok("enable", "--no-quote-helper")
    assert cluster.revisions[-1]["values"] == {
        "simulated": {"enabled": True},
        "image": {"registry": "registry.test"},
        "logLevel": "debug",
        "quoteHelper": {"enabled": False},
    }
    confcom.ok("enable", "--quote-helper")
    assert cluster.revisions[-1]["values"]["quoteHelper"] == {"enabled": True}


def test_the_namespace_gets_the_daemons_security_level(confcom, enabled):
    (namespace,) = enabled.find("Namespace", SYSTEM)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"


def test_if_helm_fails_it_is_told_what_was_done_before(confcom, cluster):
    cluster.replace("upgrade", lambda _: (1, "", "Error: INSTALLATION FAILED: it was full"))
    error = confcom.error(ExitCode.FAILED, "helm-failed", "enable", "--simulated-node", "b")
    helm, label, namespace = error["why"].split("; ")
    assert helm == "INSTALLATION FAILED: it was full"
    assert label.endswith(" confcom.internal/simulated-sgx=true")
    assert SYSTEM in namespace


def contexts(cluster):
    """What kubectl and helm were told, those that reach no cluster excepted."""
    calls = [line for line in cluster.calls if line[1] not in {"config", "version"} or "--output=json" in line]
    flags = [[word for word in line if word.startswith(("--context", "--kube-context"))] for line in calls]
    return {(line[0], *found) for line, found in zip(calls, flags, strict=True)}


def test_the_context_is_chosen_once_for_both_programs(confcom, cluster):
    cluster.context = "work"
    cluster.on_tick = lambda fake: setattr(fake, "context", "home")
    confcom.ok("enable", "--simulated")
    assert cluster.context == "home"
    assert contexts(cluster) == {("kubectl", "--context=work"), ("helm", "--kube-context=work")}


def test_a_context_that_is_named_is_used(confcom, cluster):
    cluster.context = "work"
    confcom.ok("enable", "--simulated", "--context", "home")
    assert contexts(cluster) == {("kubectl", "--context=home"), ("helm", "--kube-context=home")}


@pytest.mark.parametrize(
    ("command", "namespace"),
    [
        *((["enable", "--simulated-node", "b"], name) for name in ("", "-n", "Upper", "a_b", "a.b", "a-", "a" * 64)),
        (["disable"], "Upper"),
        (["status"], "Upper"),
    ],
)
def test_what_is_no_namespace_is_refused_at_once(confcom, cluster, command, namespace):
    cluster.run = lambda *_, **__: pytest.fail("a program was run")
    error = confcom.error(ExitCode.USAGE, "command-line-refused", *command, f"--namespace={namespace}")
    assert "'--namespace'" in error["what"]


def test_enable_finishes_what_a_disable_that_failed_took_away(confcom, enabled):
    enabled._helm_uninstall = lambda *_: (1, "", "Error: Kubernetes cluster unreachable")
    error = confcom.error(ExitCode.FAILED, "helm-failed", "disable")
    assert [f"`confcom {command}`" in error["do"] for command in ("disable", "enable")] == [True, True]
    assert not enabled.find("ValidatingAdmissionPolicy")
    confcom.ok("enable", "--simulated")
    assert enabled.find("ValidatingAdmissionPolicy")
    assert enabled.find("ValidatingAdmissionPolicyBinding")
