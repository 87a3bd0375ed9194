"""Preflight: would the namespace take the daemons' Pods, and is there one."""

import pytest

from confcom.errors import ExitCode
from testkit.fake_cluster.objects import SYSTEM

ONLY_PRIVILEGED = (
    "why: the daemons need host directories, and the quote helper the node's process IDs: only the level privileged "
    "allows that"
)
RELABEL = (
    "do:  kubectl label namespace confcom-system pod-security.kubernetes.io/enforce=privileged --overwrite; or name "
    "another one with --namespace"
)
UNKNOWN_PODS = "it is not known whether the namespace confcom-system takes the daemons' Pods"
CREATING = 'Error from server (Forbidden): error when creating "STDIN":'


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_the_namespaces_pod_security_level(refused, cluster, level):
    labels = {"pod-security.kubernetes.io/enforce": level}
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM, "labels": labels}})
    assert refused("--simulated") == [
        f"FAILED   Pod Security        the namespace confcom-system enforces the Pod Security level {level}",
        ONLY_PRIVILEGED,
        RELABEL,
    ]


def test_another_policy_refuses_the_daemons_pods(refused, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.pod_refusal = f'{CREATING} admission webhook "x" denied the request: no hostPath'
    told = refused("--simulated")
    assert told[0].endswith("the API server refuses the Pods of confcom-device-plugin in the namespace confcom-system")
    assert told[1].endswith('admission webhook "x" denied the request: no hostPath')


def test_pods_that_are_invalid_are_no_matter_of_pod_security(refused, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    said = 'spec.containers[0].resources.requests: Invalid value: "64Mi": must be less than or equal to memory limit'
    cluster.pod_refusal = f'The Pod "confcom-quote-helper-preflight" is invalid: {said}'
    told = refused("--simulated")
    assert told[0] == "FAILED   chart and values    the API server calls the Pods of confcom-device-plugin invalid"
    assert told[1].endswith(said)
    assert "Pod Security" not in told[2]


def pod_security(done):
    """What is told of that check."""
    lines = done.stderr.splitlines()
    at = next(index for index, line in enumerate(lines) if " Pod Security " in line)
    return [line.strip() for line in lines[at : at + 3]]


@pytest.mark.parametrize(
    "said",
    [
        "Unable to connect to the server: context deadline exceeded",
        f'{CREATING} pods "p" is forbidden: error looking up service account x/default: it was not found',
        f'{CREATING} pods is forbidden: User "eve" cannot create resource "pods" in API group "" in the namespace "x"',
        f'{CREATING} Internal error occurred: failed calling webhook "x": no endpoints available',
    ],
)
def test_no_answer_about_the_daemons_pods_is_no_refusal(confcom, cluster, said):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.pod_refusal = said
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert pod_security(done) == [
        f"warning  Pod Security        {UNKNOWN_PODS}",
        f"why: {said}",
        "do:  if it does not, `confcom enable` and `confcom status` say what refuses them",
    ]


def test_who_may_not_create_pods_cannot_try_one(confcom, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.denied = {"create pods"}
    done = confcom("enable", "--simulated")
    assert done.exit_code == ExitCode.OK, done.stderr
    assert "ok       permissions         everything needed is allowed" in done.stderr
    assert pod_security(done)[:2] == [
        f"warning  Pod Security        {UNKNOWN_PODS}",
        "why: not allowed: create pods in confcom-system, by which it is tried; none would be created",
    ]
    assert not [line for line in cluster.calls if "--dry-run=server" in line and line[0] == "kubectl"]


def test_a_namespace_that_cannot_be_read_is_not_one_that_is_not_there(refused, cluster):
    cluster.objects.append({"kind": "Namespace", "metadata": {"name": SYSTEM}})
    cluster.denied = {"get namespaces"}
    assert refused("--simulated-node", "b", code=ExitCode.REFUSED)[1] == (
        "why: not allowed: get namespaces in confcom-system"
    )
    assert "confcom.internal/simulated-sgx" not in cluster.node("b")["metadata"]["labels"]


def test_what_the_api_server_says_of_a_namespace_is_told(confcom, cluster):
    cluster.denied = {"get namespaces"}
    told = pod_security(confcom("enable", "--simulated"))
    assert told[0] == "FAILED   Pod Security        the namespace confcom-system cannot be read"
    assert "namespaces is forbidden" in told[1]
