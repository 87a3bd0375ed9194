"""`confcom simulation export` of a cluster, with an executable in kubectl's place."""

import json
import os
import shlex
import subprocess

import pytest
from click.testing import CliRunner

from confcom.addon.cluster.kubectl import Cluster
from confcom.addon.cluster.platform_secret_reader import read_platform
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.cli.group import cli
from confcom.errors import ExitCode
from confcom.simulated_root.record import SECRET_NAME
from confcom.simulated_root.secret import encode_secret
from testkit.cli_output import error_of


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
    """Puts a kubectl on PATH that says what it is told to; returns the arguments it was called with."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(stdout=b"", stderr="", code=0):
        (tmp_path / "stdout").write_bytes(stdout)
        script = (
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\ncat {tmp_path}/stdout\n'
            f"printf %s {shlex.quote(stderr)} >&2\nexit {code}\n"
        )
        (folder / "kubectl").write_text(script)
        (folder / "kubectl").chmod(0o755)
        return lambda: (tmp_path / "called").read_text().splitlines()

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    install.folder = folder
    return install


@pytest.fixture
def export():
    return lambda *arguments: CliRunner().invoke(cli, ["simulation", "export", *map(str, arguments)])


@pytest.fixture
def refused(export, tmp_path):
    """Exports, and gives the error; nothing was written."""

    def call(exit_code, code, *arguments):
        result = export(*arguments, tmp_path / "out", "--output", "json")
        error = error_of(result)
        assert (error["exit_code"], error["code"]) == (exit_code, code)
        assert not (tmp_path / "out").exists()
        return error

    return call


def test_options_are_handed_on_and_the_secret_is_written_nowhere(kubectl, export, platform, tmp_path):
    called = kubectl(encode_secret(platform, "sgx"))
    result = export("--namespace", "sgx", "--context=--kubeconfig=x", tmp_path / "out", "--output", "json")
    assert result.exit_code == ExitCode.OK, result.output
    assert json.loads(result.stdout)["root_sha256"] == platform.root_fingerprint
    assert (tmp_path / "out" / "root.sha256").read_text().strip() == platform.root_fingerprint
    assert called()[-3:] == ["--", "secret", SECRET_NAME]
    assert {"--namespace=sgx", "--context=--kubeconfig=x", "--output=json", "--request-timeout=20s"} <= set(called())
    seed = platform.seed.hex()
    assert seed not in result.output
    assert not any(seed.encode() in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


NOT_FOUND = f'Error from server (NotFound): secrets "{SECRET_NAME}" not found'
FORBIDDEN = 'Error from server (Forbidden): secrets is forbidden: User "eve" cannot get resource'
NOISE = 'E1124 19:30:01.1 7 memcache.go:265] "Unhandled Error" err="so long"\n'
BY_HAND = f"--output=name --request-timeout=20s -- secret {SECRET_NAME}"
"""What prints no secret."""


@pytest.mark.parametrize(
    ("stderr", "code", "shown"),
    [
        (NOT_FOUND, "simulated-root-not-found", "helm list -A"),
        (FORBIDDEN, "forbidden", 'User "eve" cannot get'),
        ("The connection to the server 127.0.0.1:1 was refused", "cluster-request-failed", BY_HAND),
        (f"{NOISE * 20}no route to host", "cluster-request-failed", "no route to host"),
    ],
)
def test_refusals_are_explained(kubectl, refused, stderr, code, shown):
    kubectl(stderr=stderr, code=1)
    error = refused(ExitCode.UNAVAILABLE, code)
    assert any(shown in error[part] for part in ("why", "do"))
    assert "memcache.go" not in error["why"]


def test_a_kubectl_that_is_missing_or_cannot_be_run(kubectl, refused, monkeypatch):
    monkeypatch.setenv("PATH", str(kubectl.folder))
    assert "--state-dir" in refused(ExitCode.UNAVAILABLE, "program-not-found")["do"]
    (kubectl.folder / "kubectl").write_bytes(b"\x7fELF")
    (kubectl.folder / "kubectl").chmod(0o755)
    refused(ExitCode.UNAVAILABLE, "program-not-executable")


def test_a_kubectl_that_does_not_end_is_told_with_its_last_words():
    def run(arguments, **settings):
        raise subprocess.TimeoutExpired(arguments, 60, stderr=b"To sign in, open a browser")

    with pytest.raises(ClusterAccessError) as caught:
        read_platform(Cluster(), run=run)
    assert caught.value.error_code == "program-timeout"
    assert " 60 s" in caught.value.what
    assert "To sign in" in caught.value.why
    assert "--output=name" in caught.value.remedy


@pytest.mark.parametrize("option", ["--namespace", "--context"])
def test_a_state_directory_is_in_no_cluster(refused, tmp_path, option):
    error = refused(ExitCode.USAGE, "command-line-refused", "--state-dir", tmp_path, option, "x")
    assert "--state-dir" in error["what"] + error["why"]
