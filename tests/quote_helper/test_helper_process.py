"""The life of a helper process: start, restart, signals, what it logs, errors a person sees."""

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_from_the_start_to_an_orderly_stop(start_helper, number):
    helper = start_helper().wait_ready()
    assert helper.get("/livez") == (200, "ok\n")
    assert helper.metric("confcom_quote_helper_ready") == 1
    assert helper.stop(number) == ExitCode.OK
    assert not helper.socket.exists()
    assert not helper.probes.exists()
    lines = helper.lines()
    assert all(line["level"] == "info" for line in lines)
    export = f"confcom simulation export --state-dir {helper.state_dir}"
    for told in (f"unix:{helper.probes}", str(helper.socket), export):
        assert [told in line["message"] for line in lines].count(True) == 1
    assert lines[-1]["signal"] == number.name


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


def test_killed_and_restarted_it_has_the_same_platform(start_helper, enclave):
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


def test_few_descriptors_and_dying_clients_do_no_harm(start_helper, vector):
    """Intel's server stops answering for good when its descriptors are used up."""
    few = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh"]
    helper = start_helper("--log-level", "debug", wrapper=few).wait_ready()
    waiting = []
    for _ in range(300):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(helper.socket))
        waiting.append(client)
    assert helper.send(vector("intel229_num")) == vector("resp_intel229_num")
    assert helper.metric("confcom_quote_helper_connections") <= 36
    for client in waiting:
        client.close()
    for _ in range(50):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(helper.socket))
            client.sendall(vector("intel229_init2"))
    assert helper.send(vector("intel229_num")) == vector("resp_intel229_num")
    AesmClient(helper.socket).init_quote()
    assert helper.stop() == ExitCode.OK
    require_no_secret(helper)


def require_no_secret(helper):
    """In the log."""
    file = helper.state_dir / "platform.json"
    values = [value for value in json.loads(file.read_text()).values() if isinstance(value, str)]
    hidden = [value for value in values if "CERTIFICATE" not in value and len(value) >= 32]
    assert hidden
    assert not [value for value in hidden if value in helper.log.read_text()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_probe_address_that_is_taken_leaves_no_socket(start_helper, short_dir):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(short_dir / "other.probe"))
        other.listen()
        helper = start_helper("--probe-address", f"unix:{short_dir}/other.probe")
        assert helper.process.wait(30) == ExitCode.UNAVAILABLE
    assert "other.probe" in helper.log.read_text()
    assert not helper.socket.exists()


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


@pytest.mark.parametrize(("lines", "logged"), [("2", 2), ("all", 100)])
def test_who_got_which_quote_is_logged(start_helper, enclave, lines, logged):
    helper = start_helper("--log-quotes-per-peer", lines).wait_ready()
    client = AesmClient(helper.socket)
    target = client.init_quote().target_info
    for number in range(100):
        client.get_quote(enclave.create_report(target, bytes([number]) * 64))

    def ends(what):
        return helper.metric(f'confcom_quote_helper_expiry_timestamp_seconds{{what="{what}"}}')

    helper.wait_until(lambda: ends("pck_certificate") != 0)
    assert ends("pck_certificate") > ends("collateral") > 1_767_225_600
    assert helper.stop() == ExitCode.OK
    me = {"uid": os.getuid(), "pid": os.getpid(), "pod": "", "container": ""}
    quotes = helper.events("quote")
    assert len(quotes) == logged
    assert all(me.items() <= line.items() and line["result"] == "success" for line in quotes)
    counts = [(more["uid"], more["count"], more["results"]) for more in helper.events("more-quotes")]
    left = 100 - logged
    assert counts == ([(os.getuid(), left, {"success": left})] if left else [])


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
    names = {
        "quote_provider": "base simulated state_directory",
        "sgx": "binary certification key_id marks open_enclave quote report",
        "simulation": "enclave keys pki platform quoting_enclave report_key validity",
    }
    rooms = tuple(f"confcom.{room}." for room in names)
    expected = {f"confcom.{room}.{name}" for room, modules in names.items() for name in modules.split()}
    assert {name for name in imported if name.startswith(rooms)} == expected
    assert not imported & {"confcom.client", "confcom.verify", "cryptography.hazmat.asn1", "importlib.metadata"}


@pytest.mark.parametrize(
    ("arguments", "environ", "told"),
    [([], {}, "--simulated"), (["--simulated"], {"CONFCOM_PROBE_ADDRESS": "nowhere"}, "CONFCOM_PROBE_ADDRESS")],
    ids=["no platform", "bad setting"],
)
def test_mistakes_are_explained_without_a_traceback(arguments, environ, told):
    result = run_python("-m", "confcom.quote_helper", *arguments, env=os.environ | environ)
    assert result.returncode == ExitCode.USAGE
    assert told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("daemon", ["quote-helper", "device-plugin"])
def test_the_command_line_shows_the_daemons_own_reference(daemon):
    result = run_python("-c", "from confcom.cli.main import main; main()", daemon, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: confcom {daemon}")
    assert "CONFCOM_PROBE_ADDRESS" in result.stdout


def test_the_command_runs_it_with_a_state_of_the_users_own(short_dir, wait_until):
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
