import io
import json
import os
import runpy

import pytest

from confcom.errors import ExitCode
from confcom.simulated_root.job import main
from confcom.simulated_root.record import RECORD_NAME, SECRET_NAME, RootRecord
from confcom.simulated_root.retrying_api_client import RETRY_DELAYS
from confcom.simulated_root.secret import decode_secret
from confcom.simulation.platform import SimulatedPlatform


@pytest.fixture
def job(api_server, clock):
    """Runs the Job's program in a pod; returns its exit code, output, errors, and how long it would have waited.

    It tells no secret, whatever happens.
    """

    def run(directory, *, environ=None, seed=7, sleep=lambda _: None):
        stdout, stderr, waited = io.StringIO(), io.StringIO(), []

        def wait(seconds):
            waited.append(seconds)
            sleep(seconds)

        code = main(
            environ=api_server.environ if environ is None else environ,
            stdout=stdout,
            stderr=stderr,
            directory=directory,
            sleep=wait,
            clock=clock,
            random_bytes=lambda size: bytes([seed]) * size,
        )
        told = stdout.getvalue() + stderr.getvalue()
        assert "token-1" not in told
        assert (bytes([seed]) * 8).hex() not in told
        return code, stdout.getvalue(), stderr.getvalue(), waited

    return run


def stored(api_server):
    return api_server.objects["secrets", SECRET_NAME]


def published(api_server):
    return api_server.objects["configmaps", RECORD_NAME]


def fingerprint(seed, clock):
    return SimulatedPlatform.create(bytes([seed]) * 32, clock()).root_fingerprint


def test_creates_the_root_as_the_pod(api_server, job, clock):
    code, out, err, waited = job(api_server.pod())
    expected = SimulatedPlatform.create(bytes([7]) * 32, clock())
    request = api_server.requests[0]
    assert (code, err, waited) == (ExitCode.OK, "", [])
    assert (request.method, request.path.partition("?")[0]) == ("POST", "/api/v1/namespaces/sgx-here/secrets")
    assert request.headers["Authorization"] == "Bearer token-1"
    assert request.headers["Content-Type"] == "application/json"
    assert decode_secret(request.body).encode() == expected.encode()
    assert expected.root_fingerprint in out


def test_the_fingerprint_is_published_and_goes_with_the_secret(api_server, job, clock):
    job(api_server.pod())
    record = RootRecord.read(published(api_server))
    assert record == RootRecord(fingerprint(7, clock), published(api_server)["metadata"]["creationTimestamp"])
    (owner,) = published(api_server)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Secret", stored(api_server)["metadata"]["uid"])
    assert "blockOwnerDeletion" not in owner  # which would need a right on the Secret's finalizers
    del api_server.objects["secrets", SECRET_NAME]
    api_server.collect_garbage()
    assert api_server.objects == {}


def test_a_second_run_changes_nothing(api_server, job, clock):
    directory = api_server.pod()
    job(directory, seed=1)
    before = dict(api_server.objects)
    api_server.requests.clear()
    code, out, err, waited = job(directory, seed=2)
    assert (code, err, waited) == (ExitCode.OK, "", [])
    assert fingerprint(1, clock) in out
    assert api_server.objects == before
    assert [(one.method, one.path.rpartition("/")[2].partition("?")[0]) for one in api_server.requests] == [
        ("POST", "secrets"),
        ("GET", SECRET_NAME),
        ("GET", RECORD_NAME),
    ]


@pytest.mark.parametrize("collected", [False, True], ids=["before the garbage collector", "after it"])
def test_another_root_is_published_in_place_of_the_deleted_one(api_server, job, clock, collected):
    directory = api_server.pod()
    job(directory, seed=1)
    uid = published(api_server)["metadata"]["uid"]
    del api_server.objects["secrets", SECRET_NAME]
    if collected:
        api_server.collect_garbage()
    assert job(directory, seed=2)[0] == ExitCode.OK
    assert RootRecord.read(published(api_server)).fingerprint == fingerprint(2, clock)
    assert published(api_server)["metadata"]["uid"] != uid  # the collector deletes by UID
    api_server.collect_garbage()
    assert published(api_server)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"data": 1}'])
def test_what_is_no_record_is_replaced(api_server, job, clock, text):
    directory = api_server.pod()
    job(directory)
    answer = api_server.answer

    def spoil(request):
        reads = request.method == "GET" and request.path.endswith(RECORD_NAME)
        return (200, text.encode()) if reads else answer(request)

    api_server.answer = spoil
    assert job(directory)[0] == ExitCode.OK
    assert RootRecord.read(published(api_server)).fingerprint == fingerprint(7, clock)


def test_a_secret_that_is_no_platform_fails_the_job(api_server, job):
    api_server.put("secrets", {"metadata": {"name": SECRET_NAME}, "data": {}})
    code, _, err, _ = job(api_server.pod())
    assert code == ExitCode.UNUSABLE
    assert SECRET_NAME in err
    assert ("configmaps", RECORD_NAME) not in api_server.objects


def test_a_secret_that_goes_meanwhile_is_told(api_server, job):
    answer = api_server.answer

    def delete_first(request):
        if request.method == "GET":
            api_server.objects.clear()
        return answer(request)

    api_server.answer = delete_first
    code, _, err, _ = job(api_server.pod())
    assert code == ExitCode.UNAVAILABLE
    assert RECORD_NAME in err


def test_passing_failures_are_asked_again(api_server, job, status):
    api_server.faults += [
        status(403, "Forbidden", "the Role is not known yet"),
        status(401, "Unauthorized"),
        status(429, "TooManyRequests"),
        status(500, "InternalError"),
        (503, b"not JSON"),
        None,
    ]
    code, out, err, waited = job(api_server.pod())
    assert (code, err, tuple(waited)) == (ExitCode.OK, "", RETRY_DELAYS)
    assert len({one.body for one in api_server.posts if one.path.partition("?")[0].endswith("/secrets")}) == 1
    assert decode_secret(json.dumps(stored(api_server)).encode()).root_fingerprint in out


def test_a_lost_answer_is_no_second_root(api_server, job):
    lost = api_server.answer

    def lose_the_first(request):
        answer = lost(request)
        return None if len(api_server.requests) == 1 else answer

    api_server.answer = lose_the_first
    assert job(api_server.pod())[0] == ExitCode.OK
    posted = [one.path.partition("?")[0].rpartition("/")[2] for one in api_server.posts]
    assert posted == ["secrets", "secrets", "configmaps"]


def test_nobody_there(api_server, job, unused_tcp_port):
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(unused_tcp_port)}
    code, _, err, waited = job(api_server.pod(), environ=environ)
    assert code == ExitCode.UNAVAILABLE
    assert "Connection refused" in err
    assert tuple(waited) == RETRY_DELAYS


@pytest.mark.parametrize(
    "refusal",
    [
        (404, "NotFound", 'namespaces "sgx-here" not found'),
        (409, "Conflict", "something else"),
        (422, "Invalid", "no such Secret"),
        (307, "", ""),
        (200, "", ""),
    ],
)
def test_what_repeating_cannot_help_is_refused_at_once(api_server, job, status, refusal):
    code, _, message = refusal
    api_server.faults += [status(*refusal)]
    exit_code, _, err, waited = job(api_server.pod())
    assert (exit_code, waited, len(api_server.requests)) == (ExitCode.FAILED, [], 1)
    assert str(code) in err
    assert message in err


def test_a_stranger_gets_no_token(api_server, job, authorities):
    directory = api_server.pod()
    (directory / "ca.crt").write_bytes((authorities[1] / "ca.crt").read_bytes())
    code, _, _, waited = job(directory)
    assert (code, waited, api_server.requests) == (ExitCode.UNAVAILABLE, [], [])


def test_proxies_of_the_environment_are_not_asked(api_server, job, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert job(api_server.pod())[0] == ExitCode.OK


def test_a_renewed_token_is_used(api_server, job, status):
    directory = api_server.pod()
    api_server.faults += [status(401, "Unauthorized")]
    job(directory, sleep=lambda _: (directory / "token").write_text("token-2"))
    assert [one.headers["Authorization"] for one in api_server.requests][:2] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("missing", ["token", "ca.crt", "namespace"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\0"])
def test_an_incomplete_pod_is_explained(api_server, job, missing, content):
    directory = api_server.pod()
    (directory / missing).unlink()
    if content is not None:
        (directory / missing).write_bytes(content)
    code, _, err, _ = job(directory)
    assert code == ExitCode.USAGE
    assert str(directory / missing) in err
    assert api_server.requests == []


def test_outside_a_pod(monkeypatch, capsys):
    for name in [name for name in os.environ if name.startswith("KUBERNETES_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("confcom.simulated_root", run_name="__main__")
    assert ended.value.code == ExitCode.USAGE
    assert "KUBERNETES_SERVICE_HOST" in capsys.readouterr().err
