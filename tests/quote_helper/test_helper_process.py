"""The life of a helper process: start, restart, competition for the path, signals, errors a person sees."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from confcom.client import AesmClient
from confcom.errors import ExitCode
from confcom.quote_provider.state_directory import open_or_create_platform
from testkit.programs import run_python


def test_start_stop_and_what_is_logged(start_helper):
    helper = start_helper().wait_ready()
    assert helper.get("/livez") == (200, "ok\n")
    assert helper.metric("confcom_quote_helper_ready") == 1
    assert helper.stop() == ExitCode.OK
    assert not helper.socket.exists()
    assert not helper.probes.exists()
    lines = helper.lines()
    assert all(line["level"] == "info" for line in lines)
    export = f"confcom simulation export --state-dir {helper.state_dir}"
    for told in (f"unix:{helper.probes}", str(helper.socket), export):
        assert [told in line["message"] for line in lines].count(True) == 1
    assert lines[-1]["signal"] == "SIGTERM"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=str)
def test_ctrl_c_and_a_closed_terminal_are_an_orderly_stop_too(start_helper, number):
    helper = start_helper().wait_ready()
    assert helper.stop(number) == ExitCode.OK
    assert not helper.socket.exists()


def test_a_sighup_that_is_ignored_as_by_nohup_stays_so(start_helper):
    helper = start_helper(wrapper=("sh", "-c", "trap '' HUP; exec \"$@\"", "sh")).wait_ready()
    helper.process.send_signal(signal.SIGHUP)
    assert helper.ready
    assert helper.stop() == ExitCode.OK
    assert [line["signal"] for line in helper.lines() if "signal" in line] == ["SIGTERM"]


def test_a_stop_before_readiness_leaves_nothing(start_helper):
    helper = start_helper()
    helper.wait_until(helper.socket.exists)
    assert helper.stop() == ExitCode.OK
    assert not helper.socket.exists()


def test_killed_and_restarted_it_takes_over_the_stale_socket_and_the_same_platform(start_helper, enclave):
    first = start_helper().wait_ready()
    before = AesmClient(first.socket).init_quote()
    report = enclave.create_report(before.target_info, bytes(64))
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    assert first.socket.exists()
    second = start_helper().wait_ready()
    client = AesmClient(second.socket)
    assert client.init_quote() == before
    assert client.get_quote(report).quote[48 : 48 + 384] == report.body.encode()
    assert second.stop() == ExitCode.OK
    assert not second.socket.exists()


def test_few_file_descriptors_mean_fewer_connections_not_a_dead_helper(start_helper, vector):
    """Intel's server stops answering for good when its descriptors are used up."""
    helper = start_helper(wrapper=["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh"]).wait_ready()
    waiting = []
    for _ in range(300):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(helper.socket))
        waiting.append(client)
    assert helper.send(vector("intel229_num")) == vector("resp_intel229_num")
    assert helper.metric("confcom_quote_helper_connections") <= 36
    for client in waiting:
        client.close()
    assert helper.stop() == ExitCode.OK


def test_a_probe_address_that_is_taken_ends_it_and_leaves_no_socket(start_helper, short_dir):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(short_dir / "other.probe"))
        other.listen()
        helper = start_helper("--probe-address", f"unix:{short_dir}/other.probe")
        assert helper.process.wait(30) == ExitCode.UNAVAILABLE
    assert "other.probe" in helper.log.read_text()
    assert not helper.socket.exists()


def test_a_client_that_dies_before_its_answer_harms_nobody(start_helper, vector):
    helper = start_helper().wait_ready()
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(helper.socket))
            client.sendall(vector("intel229_init2"))
    assert helper.send(vector("intel229_num")) == vector("resp_intel229_num")


def test_sigterm_answers_what_has_arrived(start_helper, vector):
    helper = start_helper().wait_ready()
    with socket.socket(socket.AF_UNIX) as half, socket.socket(socket.AF_UNIX) as idle:
        half.connect(str(helper.socket))
        idle.connect(str(helper.socket))
        half.sendall(vector("intel229_num")[:4])
        helper.wait_until(lambda: helper.metric("confcom_quote_helper_connections") == 2)
        helper.process.send_signal(signal.SIGTERM)
        helper.wait_until(lambda: not helper.socket.exists())
        half.sendall(vector("intel229_num")[4:])
        assert half.recv(1000) == vector("resp_intel229_num")
        assert idle.recv(1000) == b""
    assert helper.process.wait(30) == ExitCode.OK


def test_secrets_stay_out_of_the_log(start_helper):
    helper = start_helper("--log-level", "debug").wait_ready()
    AesmClient(helper.socket).init_quote()
    helper.stop()
    log = helper.log.read_text()
    secrets = json.loads((helper.state_dir / "platform.json").read_text())
    hidden = [value for value in secrets.values() if isinstance(value, str) and "CERTIFICATE" not in value]
    assert any(len(value) >= 32 for value in hidden)
    assert not [value for value in hidden if len(value) >= 32 and value in log]
    assert stat.S_IMODE((helper.state_dir / "platform.json").stat().st_mode) == 0o600


def test_what_it_has_imported_when_it_is_ready(start_helper, short_dir):
    open_or_create_platform(short_dir / "state")
    helper = start_helper(environ={"PYTHONPROFILEIMPORTTIME": "1"}, alterations=None).wait_ready()
    helper.stop()
    lines = [line for line in helper.log.read_text().splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    libraries = {name.partition(".")[0] for name in imported}
    assert {"uvloop", "cryptography", "prometheus_client", "google"} <= libraries
    assert not libraries & {"click", "rich", "yaml", "dcap_qvl", "grpc", "lightkube"}
    # Making a platform, its collateral, or reading what verifiers read takes a tenth of the start, and no quote does.
    rooms = ("confcom.sgx.", "confcom.simulation.", "confcom.quote_provider.")
    assert {name for name in imported if name.startswith(rooms)} == {
        "confcom.quote_provider.base",
        "confcom.quote_provider.simulated",
        "confcom.quote_provider.state_directory",
        "confcom.sgx.binary",
        "confcom.sgx.certification",
        "confcom.sgx.key_id",
        "confcom.sgx.marks",
        "confcom.sgx.open_enclave",
        "confcom.sgx.quote",
        "confcom.sgx.report",
        "confcom.simulation.enclave",
        "confcom.simulation.keys",
        "confcom.simulation.pki",
        "confcom.simulation.platform",
        "confcom.simulation.quoting_enclave",
        "confcom.simulation.report_key",
        "confcom.simulation.validity",
    }
    assert not imported & {"confcom.client", "confcom.verify", "cryptography.hazmat.asn1", "importlib.metadata"}


def test_the_platform_is_never_chosen_silently():
    result = run_python("-m", "confcom.quote_helper")
    assert result.returncode == ExitCode.USAGE
    assert "--simulated" in result.stderr


def test_bad_settings_are_explained_without_a_traceback():
    environ = os.environ | {"CONFCOM_PROBE_ADDRESS": "nowhere"}
    result = run_python("-m", "confcom.quote_helper", "--simulated", env=environ)
    assert result.returncode == ExitCode.USAGE
    assert "CONFCOM_PROBE_ADDRESS" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("daemon", ["quote-helper", "device-plugin"])
def test_the_command_line_shows_the_daemons_own_reference(daemon):
    result = run_python("-c", "from confcom.cli.main import main; main()", daemon, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: confcom {daemon}")
    assert "CONFCOM_PROBE_ADDRESS" in result.stdout


def test_confcom_quote_helper_runs_in_the_foreground_with_a_state_of_the_users_own(short_dir, wait_until):
    path = short_dir / "aesm.socket"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CONFCOM_")}
    with subprocess.Popen(
        [sys.executable, "-c", "from confcom.cli.main import main; main()", "quote-helper", "--simulated"],
        stderr=subprocess.PIPE,
        env=environ | {"XDG_STATE_HOME": str(short_dir / "xdg"), "CONFCOM_AESM_SOCKET": str(path)},
    ) as process:
        try:
            wait_until(lambda: path.exists() or process.poll() is not None)
            AesmClient(path).init_quote()
            assert (short_dir / "xdg" / "confcom" / "simulation" / "platform.json").exists()
        finally:
            process.terminate()
            process.stderr.read()
        assert process.wait(30) == ExitCode.OK
