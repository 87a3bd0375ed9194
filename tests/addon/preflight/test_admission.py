"""What kubectl says when a Pod is tried, as Kubernetes 1.36 words it."""

import pytest

from confcom.addon.cluster.programs import MAX_MESSAGE_CHARACTERS, stderr_summary
from confcom.addon.preflight.admission import ProbeAnswer

CREATING = 'Error from server (Forbidden): error when creating "STDIN": '
REFUSALS = [
    f'{CREATING}pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)',
    f'{CREATING}pods "p" is forbidden: no PriorityClass with name calm was found',
    f'{CREATING}pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1',
    'Error from server: error when creating "STDIN": admission webhook "x.y" denied the request: no hostPath',
    'Error from server (BadRequest): admission webhook "x" denied the request without explanation',
    "The pods \"p\" is invalid: : ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no hostPath",
    f"{CREATING}pods \"p\" is forbidden: ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no",
]
INVALID = [
    'The Pod "p" is invalid: spec.containers[0].image: Required value',
    'The Pod "p" is invalid: spec.containers[0].resources.requests: Invalid value: "64Mi": must be less',
]
DOUBTS = [
    'Error from server (Forbidden): pods is forbidden: User "eve" cannot create resource "pods" in API group ""',
    f'{CREATING}pods "p" is forbidden: error looking up service account n/default: serviceaccount "default" not found',
    f'{CREATING}pods "p" is forbidden: status unknown for quota: q, resources: pods',
    'Error from server (BadRequest): error when creating "STDIN": admission webhook "x" does not support dry run',
    'Error from server (InternalError): Internal error occurred: failed calling webhook "x": context deadline exceeded',
    "error: You must be logged in to the server (Unauthorized)",
    "Unable to connect to the server: net/http: TLS handshake timeout",
]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        *((said, ProbeAnswer(refusal="m")) for said in REFUSALS),
        *((said, ProbeAnswer(refusal="m", invalid=True)) for said in INVALID),
        *((said, ProbeAnswer(doubt="m")) for said in DOUBTS),
    ],
)
def test_the_answer_of_admission(said, answer):
    assert ProbeAnswer.read(said, "m") == answer


def test_silence_is_no_refusal():
    answer = ProbeAnswer.read("", "")
    assert answer.doubt
    assert answer == ProbeAnswer(doubt=answer.doubt)


def test_a_long_refusal_is_one():
    said = REFUSALS[0] + ", restricted volume types" * MAX_MESSAGE_CHARACTERS
    message = stderr_summary(said.encode())
    assert "forbidden" not in message
    assert ProbeAnswer.read(said, message).refusal == message
