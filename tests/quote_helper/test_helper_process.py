import asyncio
import contextlib
import os
import socket
import subprocess
import sys

import pytest

from confcom.client import AesmClient
from confcom.errors import ExitCode
from confcom.quote_provider.state_directory import open_or_create_platform
from testkit.conditions import until
from testkit.programs import run_confcom


def test_from_the_start_to_an_orderly_stop(start_helper):
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


def test_with_few_descriptors_it_warns_and_holds_few_connections(start_helper, vector):
    """For comparison, Intel's server stops answering for ever once it has used up its descriptors."""
    helper = start_helper(wrapper=["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh"]).wait_ready()
    (warning,) = helper.events("few-descriptors")
    assert warning["level"] == "warning"
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(helper.socket))
        assert helper.send(vector("intel229_num")) == vector("resp_intel229_num")
        assert helper.metric("confcom_quote_helper_connections") <= 36


def test_a_probe_address_that_is_taken_leaves_no_socket(start_helper):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        helper = start_helper("--probe-address", taken)
        assert helper.process.wait(30) == ExitCode.UNAVAILABLE
    assert taken in helper.log.read_text()
    assert not helper.socket.exists()


def test_who_got_which_quote_is_logged(start_helper, enclave):
    helper = start_helper("--log-quotes-per-peer", "2").wait_ready()
    client = AesmClient(helper.socket)
    report = enclave.create_report(client.init_quote().target_info, bytes(64))
    for _ in range(5):
        client.get_quote(report)
    assert helper.stop() == ExitCode.OK
    me = {"uid": os.getuid(), "pid": os.getpid(), "pod": "", "container": ""}
    assert [me.items() <= line.items() and line["result"] for line in helper.events("quote")] == ["success"] * 2
    (more,) = helper.events("more-quotes")
    assert (more["count"], more["results"]) == (3, {"success": 3})


def test_what_it_has_imported_when_it_is_ready(start_helper, short_dir):
    open_or_create_platform(short_dir / "state")
    helper = start_helper(environ={"PYTHONPROFILEIMPORTTIME": "1"}, alterations=None).wait_ready()
    helper.stop()
    lines = [line for line in helper.log.read_text().splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip() for line in lines}
    libraries = {name.partition(".")[0] for name in imported}
    assert {"uvloop", "cryptography", "prometheus_client", "google"} <= libraries
    assert not libraries & {"click", "yaml", "dcap_qvl", "grpc", "lightkube"}
    # Code for collateral or for verifiers would take a tenth of the start time, and no quote needs this code.
    names = {
        "quote_provider": "base expected_root quote_checks simulated state_directory",
        "sgx": "binary certificates certification key_id pck pck.chain pck.extension pck.platform_page quote report "
        "signed_json simulation_marks td_report tee_type",
        "simulation": "collateral_staging enclave keys pki platform quoting_enclave root_seed",
    }
    rooms = tuple(f"confcom.{room}." for room in names)
    expected = {f"confcom.{room}.{name}" for room, modules in names.items() for name in modules.split()}
    assert {name for name in imported if name.startswith(rooms)} == expected
    assert not imported & {"confcom.client", "confcom.verify", "importlib.metadata"}


@pytest.mark.parametrize("daemon", ["quote-helper", "device-plugin"])
def test_the_command_line_shows_the_daemons_own_reference(daemon):
    result = run_confcom(daemon, "--help", prog_name="confcom")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"usage: confcom {daemon}")
    assert "CONFCOM_PROBE_ADDRESS" in result.stdout


def test_the_command_runs_it_with_a_state_of_the_users_own(short_dir):
    path = short_dir / "aesm.socket"
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CONFCOM_")}
    with subprocess.Popen(
        [sys.executable, "-c", "from confcom.cli.main import main; main()", "quote-helper", "--simulated"],
        stderr=subprocess.PIPE,
        env=environ | {"XDG_STATE_HOME": str(short_dir / "xdg"), "CONFCOM_AESM_SOCKET": str(path)},
    ) as process:
        try:
            asyncio.run(until(lambda: path.exists() or process.poll() is not None))
            AesmClient(path).init_quote()
            assert (short_dir / "xdg" / "confcom" / "simulation" / "simulated-root" / "seed").exists()
        finally:
            process.terminate()
            process.stderr.read()
        assert process.wait(30) == ExitCode.OK
