"""`confcom simulation export` of a cluster, with an executable in kubectl's place."""

import json
import os
import shlex
import subprocess
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from confcom.addon.cluster.kubectl import Cluster
from confcom.addon.cluster.programs import ClusterAccessError
from confcom.addon.cluster.simulated_platform import read_platform
from confcom.cli.group import cli
from confcom.errors import ExitCode
from confcom.quote_provider.export import export_platform
from confcom.simulated_root.record import SECRET_NAME
from confcom.simulated_root.secret import encode_secret


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


def test_the_same_files_as_from_a_state_directory(kubectl, export, platform, tmp_path):
    called = kubectl(encode_secret(platform, "confcom-system"))
    result = export(tmp_path / "out", "--output", "json")
    assert result.exit_code == ExitCode.OK, result.output
    assert json.loads(result.stdout)["root_sha256"] == platform.root_fingerprint
    export_platform(platform, tmp_path / "expected", datetime.now(UTC))
    for folder in ("out", "expected"):
        assert (tmp_path / folder / "root.sha256").read_text().strip() == platform.root_fingerprint
    names = {path.relative_to(tmp_path / "expected") for path in (tmp_path / "expected").rglob("*")}
    assert {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*")} == names
    assert called()[0] == "get"
    assert called()[-3:] == ["--", "secret", SECRET_NAME]
    assert {"--namespace=confcom-system", "--output=json", "--request-timeout=20s"} <= set(called())
    assert not any(word.startswith("--context") for word in called())


def test_namespace_and_context_are_handed_on(kubectl, export, platform, tmp_path):
    called = kubectl(encode_secret(platform, "sgx"))
    assert export("--namespace", "sgx", "--context=--kubeconfig=x", tmp_path / "out").exit_code == ExitCode.OK
    assert {"--namespace=sgx", "--context=--kubeconfig=x"} <= set(called())


def test_the_secret_itself_is_written_nowhere(kubectl, export, platform, tmp_path):
    kubectl(encode_secret(platform, "sgx"))
    result = export(tmp_path / "out")
    seed = platform.seed.hex()
    assert seed not in result.output
    assert not any(seed.encode() in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            f'Error from server (NotFound): secrets "{SECRET_NAME}" not found',
            ["there is no Secret", "in the namespace confcom-system", "helm list -A"],
        ),
        (
            'Error from server (Forbidden): secrets is forbidden: User "eve" cannot get resource',
            ["may not read the Secret", 'User "eve" cannot get', "ask someone who may"],
        ),
        (
            "The connection to the server 127.0.0.1:1 was refused",
            [
                "cannot be asked",
                "was refused",
                "kubectl get --namespace=confcom-system --output=name",
                f"-- secret {SECRET_NAME}",
            ],
        ),
        (
            'E1124 19:30:01.1 7 memcache.go:265] "Unhandled Error" err="so long"\n' * 20 + "no route to host",
            ["why: no route to host"],
        ),
        ("\x1b[31mred", ["\\x1b[31mred"]),
        ("", ["said nothing"]),
    ],
)
def test_refusals_are_explained(kubectl, export, tmp_path, stderr, said):
    kubectl(stderr=stderr, code=1)
    result = export(tmp_path / "out")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert all(words in result.stderr for words in said), result.stderr
    assert not (tmp_path / "out").exists()


def test_no_kubectl(kubectl, export, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(kubectl.folder))
    result = export(tmp_path / "out")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "no kubectl on PATH" in result.stderr
    assert "--state-dir" in result.stderr


def test_a_kubectl_that_cannot_be_run(kubectl, export, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(kubectl.folder))
    (kubectl.folder / "kubectl").write_bytes(b"\x7fELF")
    (kubectl.folder / "kubectl").chmod(0o755)
    result = export(tmp_path / "out")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "kubectl cannot be run" in result.stderr


def test_a_kubectl_that_does_not_end_is_told_with_its_last_words():
    def run(arguments, **settings):
        raise subprocess.TimeoutExpired(arguments, 60, stderr=b"To sign in, open a browser")

    with pytest.raises(ClusterAccessError) as caught:
        read_platform(Cluster(), run=run)
    assert "within 60 s" in caught.value.what
    assert "To sign in" in caught.value.why
    assert "--output=name" in caught.value.remedy


def test_a_foreign_secret(kubectl, export, tmp_path):
    kubectl(b'{"kind": "Secret", "data": {"password": "c2VjcmV0"}}')
    result = export(tmp_path / "out")
    assert result.exit_code == ExitCode.UNUSABLE
    assert "does not hold a simulated platform" in result.stderr
    assert "c2VjcmV0" not in result.output


@pytest.mark.parametrize("option", ["--namespace", "--context"])
def test_a_state_directory_is_in_no_cluster(export, tmp_path, option):
    result = export("--state-dir", tmp_path, option, "x", tmp_path / "out")
    assert result.exit_code == ExitCode.USAGE
    assert "--state-dir is a platform of this machine" in result.stderr
