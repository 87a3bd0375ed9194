import io
import os
import subprocess
import sys

import pytest

from confcom.addon.api_server import RETRY_DELAYS
from confcom.addon.platform_secret import SECRET_NAME, decode_secret
from confcom.addon.simulated_root import main
from confcom.errors import ExitCode
from confcom.simulation.platform import SimulatedPlatform


@pytest.fixture
def job(api_server, clock):
    """Runs the Job's program in a pod; returns its exit code, output, errors, and how long it would have waited."""

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
        return code, stdout.getvalue(), stderr.getvalue(), waited

    return run


def stored(api_server):
    return api_server.secrets["sgx-here", SECRET_NAME]


def test_creates_the_root_as_the_pod(api_server, job, clock):
    code, out, err, waited = job(api_server.pod())
    expected = SimulatedPlatform.create(bytes([7]) * 32, clock())
    ((path, headers, body),) = api_server.requests
    assert (code, err, waited) == (ExitCode.OK, "", [])
    assert path.partition("?")[0] == "/api/v1/namespaces/sgx-here/secrets"
    assert headers["Authorization"] == "Bearer token-1"
    assert headers["Content-Type"] == "application/json"
    assert decode_secret(body).encode() == expected.encode()
    assert expected.root_fingerprint in out


def test_a_second_run_changes_nothing(api_server, job):
    directory = api_server.pod()
    job(directory, seed=1)
    first = stored(api_server)
    code, out, err, waited = job(directory, seed=2)
    assert (code, err, waited) == (ExitCode.OK, "", [])
    assert "is there already" in out
    assert stored(api_server) is first
    assert [path for path, _, _ in api_server.requests] == [
        api_server.requests[0][0]
    ] * 2  # nothing is read or replaced


@pytest.mark.parametrize("outcome", ["created", "exists", "refused", "unavailable"])
def test_no_secret_is_told(api_server, job, status, outcome):
    directory = api_server.pod()
    if outcome == "exists":
        job(directory, seed=7)
    api_server.faults += {"refused": [status(400, "BadRequest")], "unavailable": [None] * 9}.get(outcome, [])
    _, out, err, _ = job(directory, seed=7)
    assert out or err
    assert "token-1" not in out + err
    assert (bytes([7]) * 8).hex() not in out + err


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
    assert len({body for _, _, body in api_server.requests}) == 1
    assert "created" in out
    assert stored(api_server)


def test_a_lost_answer_is_no_second_root(api_server, job):
    lost = api_server.answer

    def lose_the_first(path, headers, body):
        answer = lost(path, headers, body)
        return None if len(api_server.requests) == 1 else answer

    api_server.answer = lose_the_first
    code, out, _, _ = job(api_server.pod())
    assert (code, len(api_server.requests)) == (ExitCode.OK, 2)
    assert "is there already" in out


def test_it_gives_up_with_the_last_reason(api_server, job, status):
    api_server.faults += [status(403, "Forbidden", "cannot create resource\n\x1b[31msecrets")] * 99
    code, out, err, waited = job(api_server.pod())
    assert (code, out) == (ExitCode.UNAVAILABLE, "")
    assert tuple(waited) == RETRY_DELAYS
    assert len(api_server.requests) == len(RETRY_DELAYS) + 1
    assert "answered 403: cannot create resource\\n\\x1b[31msecrets" in err
    assert "may create Secrets" in err


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
    assert f"answered {code}" in err
    assert message in err


def test_a_stranger_gets_no_token(api_server, job, make_certificate, tmp_path):
    directory = api_server.pod()
    make_certificate(directory, "ca.crt", "unused.pem")
    code, _, err, waited = job(directory)
    assert (code, waited, api_server.requests) == (ExitCode.UNAVAILABLE, [], [])
    assert "the pod's CA did not issue" in err


def test_proxies_of_the_environment_are_not_asked(api_server, job, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert job(api_server.pod())[0] == ExitCode.OK


def test_a_renewed_token_is_used(api_server, job, status):
    directory = api_server.pod()
    api_server.faults += [status(401, "Unauthorized")]
    job(directory, sleep=lambda _: (directory / "token").write_text("token-2"))
    assert [headers["Authorization"] for _, headers, _ in api_server.requests] == ["Bearer token-1", "Bearer token-2"]


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


def test_outside_a_pod(tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    done = subprocess.run(
        [sys.executable, "-m", "confcom.addon.simulated_root"], capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == ExitCode.USAGE
    assert "no access to a Kubernetes API" in done.stderr
    assert "KUBERNETES_SERVICE_HOST" in done.stderr
