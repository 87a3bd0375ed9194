import hashlib
import json
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.cli.group import cli
from confcom.errors import ExitCode, OutputError, SettingsError
from confcom.quote_provider.export import export_platform
from confcom.quote_provider.state_directory import STATE_FILE, exposure, open_or_create_platform, open_platform
from confcom.sgx.collateral.bundle import COLLATERAL_FILES, Collateral
from testkit.raised import raises


@pytest.fixture
def stored(tmp_path, clock):
    return open_or_create_platform(tmp_path / "state", clock=clock).platform


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *arguments: runner.invoke(cli, ["simulation", *map(str, arguments)])


def test_layout_and_contents(tmp_path, stored, now):
    out = tmp_path / "deep" / "out"
    files = export_platform(stored, out, now)

    root = x509.load_pem_x509_certificate((out / "root.pem").read_bytes())
    fingerprint = hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()
    assert (out / "root.sha256").read_text() == f"{fingerprint}\n"
    assert fingerprint == stored.root_fingerprint
    collateral = {path.name: path.read_bytes() for path in (out / "collateral").iterdir()}
    assert Collateral.from_files(collateral) == stored.collateral(now)
    assert set(collateral) == set(COLLATERAL_FILES)
    assert set(files) == {path for path in out.rglob("*") if path.is_file()}


def test_what_is_exported_is_public_and_holds_no_secret(tmp_path, stored, now):
    before = os.umask(0o077)
    try:
        files = export_platform(stored, tmp_path / "out", now)
    finally:
        os.umask(before)
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        content = path.read_bytes()
        assert stored.seed not in content
        assert stored.seed.hex().encode() not in content
        assert b"PRIVATE KEY" not in content


def test_exporting_again_is_the_same_until_it_renews(tmp_path, stored, now):
    files = export_platform(stored, tmp_path / "out", now)
    first = {path: path.read_bytes() for path in files}
    export_platform(stored, tmp_path / "out", now + timedelta(days=14))
    assert {path: path.read_bytes() for path in files} == first
    export_platform(stored, tmp_path / "out", now + timedelta(days=15))
    renewed = {path.name for path in files if path.read_bytes() != first[path]}
    assert renewed == {"tcb_info.json", "qe_identity.json", "pck_crl.der", "root_ca_crl.der"}


def test_another_platforms_root_is_never_replaced(tmp_path, stored, now, clock):
    other = open_or_create_platform(tmp_path / "other", clock=clock).platform
    export_platform(other, tmp_path / "out", now)
    with raises("export-over-another-root", SettingsError, "why", "remedy"):
        export_platform(stored, tmp_path / "out", now)
    assert (tmp_path / "out" / "root.pem").read_bytes() == other.pki.root.pem


def test_not_into_a_state_directory(tmp_path, stored, now):
    with raises("export-into-state-directory", SettingsError, "why", "remedy"):
        export_platform(stored, tmp_path / "state", now)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path, stored, now):
    (tmp_path / "file").write_text("")
    with raises("export-not-writable", OutputError, "why", "remedy"):
        export_platform(stored, tmp_path / "file", now)


def test_a_file_that_cannot_be_replaced_leaves_no_other_behind(tmp_path, stored, now):
    blocked = tmp_path / "out" / "collateral" / "tcb_info.json"
    blocked.mkdir(parents=True)
    with raises("export-not-writable", OutputError):
        export_platform(stored, tmp_path / "out", now)
    assert [path.name for path in blocked.parent.iterdir()] == ["tcb_info.json"]


def test_create_is_idempotent_and_prints_the_fingerprint(tmp_path, run):
    first = run("create", tmp_path / "state")
    fingerprint = open_platform(tmp_path / "state").root_fingerprint
    assert first.exit_code == ExitCode.OK
    assert fingerprint in first.stdout
    again = json.loads(run("create", tmp_path / "state", "--output", "json").stdout)
    assert again == {"state_dir": str(tmp_path / "state"), "created": False, "root_sha256": fingerprint}


def test_export_command(tmp_path, run):
    run("create", tmp_path / "state")
    result = run("export", "--state-dir", tmp_path / "state", tmp_path / "out", "--output", "json")
    shown = json.loads(result.stdout)
    assert shown["root_sha256"] == (tmp_path / "out" / "root.sha256").read_text().strip()
    assert len(shown["files"]) == 2 + len(COLLATERAL_FILES)
    text = run("export", "--state-dir", tmp_path / "state", tmp_path / "out").stdout
    assert f" {tmp_path}/out/root.pem" in text
    assert shown["root_sha256"] in text


def test_show_tells_who_the_platform_is_and_no_secret(tmp_path, run):
    run("create", tmp_path / "state")
    platform = open_platform(tmp_path / "state")
    shown = json.loads(run("show", "--state-dir", tmp_path / "state", "--output", "json").stdout)
    text = run("show", "--state-dir", tmp_path / "state").stdout
    assert shown["root_sha256"] == platform.root_fingerprint
    assert shown["qe_mr_enclave"] == platform.quoting_enclave().target_info.mr_enclave.hex()
    assert shown["quote_size"] == platform.quoting_enclave().quote_size
    for value in shown.values():
        assert str(value) in text
    assert platform.seed.hex() not in text + json.dumps(shown)


def arguments(command: str, directory: Path) -> list:
    state = directory / "state"
    return {"create": [state], "show": ["--state-dir", state], "export": ["--state-dir", state, directory / "out"]}[
        command
    ]


def require_refused(result, exit_code: ExitCode, code: str) -> None:
    assert result.exit_code == exit_code, result.exception
    assert json.loads(result.stdout)["error"]["code"] == code


@pytest.mark.parametrize("command", ["show", "export"])
def test_commands_explain_a_missing_platform(tmp_path, run, command):
    result = run(command, *arguments(command, tmp_path), "--output", "json")
    require_refused(result, ExitCode.UNAVAILABLE, "no-simulated-platform")
    assert "confcom simulation create" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["create", "show", "export"])
def test_commands_explain_a_platform_that_is_unusable(tmp_path, run, command):
    run("create", tmp_path / "state")
    (tmp_path / "state" / STATE_FILE).write_text("{}")
    result = run(command, *arguments(command, tmp_path), "--output", "json")
    require_refused(result, ExitCode.UNUSABLE, "platform-unusable")


def test_a_place_that_cannot_be_written_has_the_exit_code_of_failed_output(tmp_path, run):
    run("create", tmp_path / "state")
    (tmp_path / "file").write_text("")
    result = run("export", "--state-dir", tmp_path / "state", tmp_path / "file", "--output", "json")
    require_refused(result, ExitCode.FAILED, "export-not-writable")


@pytest.mark.parametrize("command", ["create", "show", "export"])
def test_commands_warn_of_a_platform_that_others_can_read(tmp_path, run, command):
    state = tmp_path / "state"
    run("create", state)
    assert run(command, *arguments(command, tmp_path)).stderr == ""
    (state / STATE_FILE).chmod(0o644)
    result = run(command, *arguments(command, tmp_path))
    assert result.exit_code == ExitCode.OK
    assert result.stderr == f"Warning: {exposure(state)}\n"


def test_names_of_directories_are_shown_escaped(tmp_path, run):
    result = run("create", tmp_path / "a\x1b[2K\nb")
    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines()[0].endswith(rf" {tmp_path}/a\x1b[2K\nb")


def test_help_has_examples(run):
    for command in ([], ["create"], ["show"], ["export"]):
        assert "confcom simulation" in run(*command, "--help").stdout
