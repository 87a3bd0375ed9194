import functools
import hashlib
import json
import os
import stat
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confcom.errors import ExitCode, OutputError, SettingsError
from confcom.quote_provider.export import export_platform
from confcom.quote_provider.state_directory import ROOT_FOLDER, exposure, open_or_create_platform, open_platform
from confcom.sgx.collateral_bundle import COLLATERAL_FILES, CollateralBundle
from confcom.sgx.tee_type import TeeType
from confcom.simulation.root_seed import SEED
from testkit.expected_errors import raises
from testkit.programs import run_confcom


@pytest.fixture
def stored(tmp_path, clock):
    return open_or_create_platform(tmp_path / "state", clock=clock).platform


@pytest.fixture
def run():
    return functools.partial(run_confcom, "simulation")


def test_what_is_exported_is_public_and_holds_no_secret(tmp_path, stored, now):
    out = tmp_path / "deep" / "out"
    before = os.umask(0o077)
    try:
        files = export_platform(stored, out, now)
    finally:
        os.umask(before)
    root = x509.load_pem_x509_certificate((out / "root.pem").read_bytes())
    fingerprint = hashlib.sha256(root.public_bytes(Encoding.DER)).hexdigest()
    assert (out / "root.sha256").read_text() == f"{fingerprint}\n"
    assert fingerprint == stored.root_fingerprint
    collateral = {path.name: path.read_bytes() for path in (out / "collateral").iterdir()}
    assert CollateralBundle.from_files(collateral) == stored.collateral(now)
    assert set(collateral) == set(COLLATERAL_FILES)
    assert set(files) == {path for path in out.rglob("*") if path.is_file()}
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        content = path.read_bytes()
        assert stored.seed not in content
        assert stored.seed.hex().encode() not in content
        assert b"PRIVATE KEY" not in content


def test_collateral_of_each_tee_is_exported(tmp_path, stored, run):
    for tee in TeeType:
        out = tmp_path / tee.name
        done = run("export", "--state-dir", tmp_path / "state", "--tee", tee.name.lower(), out)
        assert done.exit_code == 0, done.output
        files = {path.name: path.read_bytes() for path in (out / "collateral").iterdir()}
        assert CollateralBundle.from_files(files).read().tcb_info.tee is tee
        assert (out / "root.pem").read_bytes() == stored.pki.root.pem


def test_exporting_again_is_the_same_until_it_renews(tmp_path, stored, now):
    files = export_platform(stored, tmp_path / "out", now)
    first = {path: path.read_bytes() for path in files}
    export_platform(stored, tmp_path / "out", now + timedelta(days=14))
    assert {path: path.read_bytes() for path in files} == first
    export_platform(stored, tmp_path / "out", now + timedelta(days=15))
    renewed = {path.name for path in files if path.read_bytes() != first[path]}
    assert renewed == {"tcb_info.json", "qe_identity.json", "pck_crl.der", "root_ca_crl.der"}


def test_where_nothing_is_exported_to(tmp_path, stored, now, clock):
    other = open_or_create_platform(tmp_path / "other", clock=clock).platform
    export_platform(other, tmp_path / "others", now)
    (tmp_path / "file").write_text("")
    blocked = tmp_path / "out" / "collateral" / "tcb_info.json"
    blocked.mkdir(parents=True)
    for place, code, kind in (
        ("others", "export-over-another-root", SettingsError),
        ("state", "export-into-state-directory", SettingsError),
        ("file", "export-not-writable", OutputError),
        ("out", "export-not-writable", OutputError),
    ):
        with raises(code, kind, "why", "remedy"):
            export_platform(stored, tmp_path / place, now)
    assert (tmp_path / "others" / "root.pem").read_bytes() == other.pki.root.pem
    assert [path.name for path in blocked.parent.iterdir()] == ["tcb_info.json"]


def test_commands_create_and_export(tmp_path, run):
    state, out = tmp_path / "state", tmp_path / "out"
    created = run("create", state)
    fingerprint = open_platform(state).root_fingerprint
    assert created.exit_code == ExitCode.OK
    assert fingerprint in created.stdout
    again = json.loads(run("create", state, "--output", "json").stdout)
    assert again == {"schema": 1, "state_dir": str(state), "created": False, "root_sha256": fingerprint}

    exported = json.loads(run("export", "--state-dir", state, out, "--output", "json").stdout)
    text = run("export", "--state-dir", state, out).stdout
    assert exported["root_sha256"] == (out / "root.sha256").read_text().strip() == fingerprint
    assert len(exported["files"]) == 2 + len(COLLATERAL_FILES)
    assert f" {out}/root.pem" in text
    assert fingerprint in text


def arguments(command, directory):
    state = directory / "state"
    options = {"create": [state], "export": ["--state-dir", state, directory / "out"]}
    return [command, *options[command]]


@pytest.mark.parametrize(
    ("command", "trouble", "told"),
    [
        ("export", "missing", (ExitCode.UNAVAILABLE, "no-simulated-platform")),
        ("create", "damaged", (ExitCode.UNUSABLE, "simulated-root-unusable")),
        ("export", "damaged", (ExitCode.UNUSABLE, "simulated-root-unusable")),
        ("export", "no place", (ExitCode.FAILED, "export-not-writable")),
    ],
)
def test_commands_explain(tmp_path, run, command, trouble, told):
    if trouble != "missing":
        run("create", tmp_path / "state")
    if trouble == "damaged":
        (tmp_path / "state" / ROOT_FOLDER / SEED).write_text("{}")
    if trouble == "no place":
        (tmp_path / "out").write_text("")
    result = run(*arguments(command, tmp_path), "--output", "json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == told
    assert (tmp_path / "out").exists() == (trouble == "no place")
    assert ("confcom simulation create" in result.stderr) == (trouble == "missing")


@pytest.mark.parametrize("command", ["create", "export"])
def test_commands_warn_of_a_platform_that_others_can_read(tmp_path, run, command):
    run("create", tmp_path / "state")
    assert run(*arguments(command, tmp_path)).stderr == ""
    (tmp_path / "state" / ROOT_FOLDER / SEED).chmod(0o644)
    result = run(*arguments(command, tmp_path))
    assert (result.exit_code, result.stderr) == (ExitCode.OK, f"Warning: {exposure(tmp_path / 'state')}\n")


def test_names_of_directories_are_shown_escaped(tmp_path, run):
    result = run("create", tmp_path / "a\x1b[2K\nb")
    assert result.exit_code == ExitCode.OK
    assert result.stdout.splitlines()[0].endswith(rf" {tmp_path}/a\x1b[2K\nb")
