"""Preflight: would the namespace take the daemons' Pods, and is there one."""

import json

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import findings_of
from testkit.fake_cluster.objects import SYSTEM

CREATING = 'Error from server (Forbidden): error when creating "STDIN":'
UNKNOWN = ("warning", "admission-unknown")


@pytest.fixture
def namespace(cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    return cluster


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_the_namespaces_pod_security_level(refused, namespace, level):
    namespace.objects[-1]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": level}
    found = refused("--simulated", check="Pod Security", code="pod-security-too-strict")
    assert level in found["what"]
    assert f"namespace {SYSTEM} pod-security.kubernetes.io/enforce=privileged" in found["do"]


def test_another_policy_refuses_the_daemons_pods(confcom, namespace):
    namespace.pod_refusal = f'{CREATING} admission webhook "x" denied the request: no hostPath'
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    failed = [one for one in json.loads(done.stdout)["findings"] if one["outcome"] == "failed"]
    assert {(one["check"], one["code"]) for one in failed} == {("Pod Security", "pods-refused")}
    for one, daemon in zip(failed, ("confcom-device-plugin", "confcom-quote-helper"), strict=True):
        assert daemon in one["what"]
        assert one["why"].endswith('admission webhook "x" denied the request: no hostPath')
    assert not namespace.revisions


def test_pods_that_are_invalid_are_no_matter_of_pod_security(confcom, namespace):
    said = 'spec.containers[0].resources.requests: Invalid value: "64Mi": must be less than or equal to memory limit'
    namespace.pod_refusal = f'The Pod "confcom-quote-helper-preflight" is invalid: {said}'
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    failed = [one for one in json.loads(done.stdout)["findings"] if one["outcome"] == "failed"]
    assert {(one["check"], one["code"]) for one in failed} == {("chart and values", "pods-invalid")}
    assert all(one["why"].endswith(said) for one in failed)
    assert not namespace.revisions


def pod_security(done):
    """The finding of that check."""
    (found,) = [one for one in json.loads(done.stdout)["findings"] if one["check"] == "Pod Security"]
    return found


@pytest.mark.parametrize(
    "said",
    [
        "Unable to connect to the server: context deadline exceeded",
        f'{CREATING} pods "p" is forbidden: error looking up service account x/default: it was not found',
        f'{CREATING} pods is forbidden: User "eve" cannot create resource "pods" in API group "" in the namespace "x"',
        f'{CREATING} Internal error occurred: failed calling webhook "x": no endpoints available',
    ],
)
def test_no_answer_about_the_daemons_pods_is_no_refusal(confcom, namespace, said):
    namespace.pod_refusal = said
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert findings_of(done)["Pod Security"] == UNKNOWN
    assert pod_security(done)["why"] == said


def test_who_may_not_create_pods_cannot_try_one(confcom, namespace):
    namespace.denied = {"create pods"}
    done = confcom("enable", "--simulated", "-o", "json")
    assert done.exit_code == ExitCode.OK, done.stderr
    found = findings_of(done)
    assert (found["permissions"], found["Pod Security"]) == (("ok", "permissions-granted"), UNKNOWN)
    assert f"create pods in {SYSTEM}" in pod_security(done)["why"]
    assert not [line for line in namespace.calls if "--dry-run=server" in line and line[0] == "kubectl"]


def test_a_namespace_that_cannot_be_read_is_not_one_that_is_not_there(confcom, namespace):
    namespace.denied = {"get namespaces"}
    done = confcom("enable", "--simulated-node", "b", "-o", "json")
    assert done.exit_code == ExitCode.REFUSED
    found = findings_of(done)
    assert (found["permissions"], found["Pod Security"]) == (
        ("failed", "permissions-missing"),
        ("failed", "forbidden"),
    )
    assert "namespaces is forbidden" in pod_security(done)["why"]
    assert "confcom.internal/simulated-sgx" not in namespace.node("b")["metadata"]["labels"]
