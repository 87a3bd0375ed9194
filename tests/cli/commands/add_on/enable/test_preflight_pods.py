"""Preflight: would the namespace take the daemons' Pods, and is there one."""

import pytest

from confcom.errors import ExitCode
from testkit.cli_output import finding_of, findings_of
from testkit.fake_cluster.objects import SYSTEM

CREATING = 'Error from server (Forbidden): error when creating "STDIN":'
UNKNOWN = ("warning", "admission-unknown")


@pytest.fixture
def namespace(cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    return cluster


@pytest.fixture
def failed(confcom, namespace):
    """Enables, expects that nothing is changed, and gives the findings that failed."""

    def call():
        document = confcom.document("enable", "--simulated", exit_code=ExitCode.REFUSED)
        assert not namespace.revisions
        return [one for one in document["findings"] if one["outcome"] == "failed"]

    return call


def test_the_namespaces_pod_security_level(refused, namespace):
    namespace.objects[-1]["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "baseline"}
    remedy = f"namespace {SYSTEM} pod-security.kubernetes.io/enforce=privileged"
    refused("--simulated", check="Pod Security", code="pod-security-too-strict", what="baseline", do=remedy)


def test_another_policy_refuses_the_daemons_pods(failed, namespace):
    namespace.pod_refusal = f'{CREATING} admission webhook "x" denied the request: no hostPath'
    for one, daemon in zip(failed(), ("confcom-device-plugin", "confcom-quote-helper"), strict=True):
        assert (one["check"], one["code"]) == ("Pod Security", "pods-refused")
        assert daemon in one["what"]
        assert one["why"].endswith('admission webhook "x" denied the request: no hostPath')


def test_pods_that_are_invalid_are_no_matter_of_pod_security(failed, namespace):
    said = 'spec.containers[0].resources.requests: Invalid value: "64Mi": must be less than or equal to memory limit'
    namespace.pod_refusal = f'The Pod "confcom-quote-helper-preflight" is invalid: {said}'
    found = failed()
    assert {(one["check"], one["code"]) for one in found} == {("chart and values", "pods-invalid")}
    assert all(one["why"].endswith(said) for one in found)


def test_no_answer_about_the_daemons_pods_is_no_refusal(confcom, namespace):
    namespace.pod_refusal = said = "Unable to connect to the server: context deadline exceeded"
    document = confcom.document("enable", "--simulated")
    assert findings_of(document)["Pod Security"] == UNKNOWN
    assert finding_of(document, "Pod Security")["why"] == said


def test_who_may_not_create_pods_cannot_try_one(confcom, namespace):
    namespace.denied = {"create pods"}
    document = confcom.document("enable", "--simulated")
    found = findings_of(document)
    assert (found["permissions"], found["Pod Security"]) == (("ok", "permissions-granted"), UNKNOWN)
    assert f"create pods in {SYSTEM}" in finding_of(document, "Pod Security")["why"]
    assert not [line for line in namespace.calls if "--dry-run=server" in line and line[0] == "kubectl"]


def test_an_unreadable_namespace_is_not_a_missing_one(confcom, namespace):
    namespace.denied = {"get namespaces"}
    document = confcom.document("enable", "--simulated-node", "b", exit_code=ExitCode.REFUSED)
    found = findings_of(document)
    assert (found["permissions"], found["Pod Security"]) == (("failed", "permissions-missing"), ("failed", "forbidden"))
    assert "namespaces is forbidden" in finding_of(document, "Pod Security")["why"]
    assert "confcom.internal/simulated-sgx" not in namespace.node("b")["metadata"]["labels"]
