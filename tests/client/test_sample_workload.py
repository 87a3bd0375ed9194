import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from confcom.client.mode import InProcessQuotingError, ProcessMode
from confcom.errors import SettingsError
from confcom.sample_workload import (
    RESULT_PREFIX,
    NoEnclaveDeviceError,
    WorkloadSettings,
    main,
    open_enclave_device,
    run,
)
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from testkit.conditions import wait_until
from testkit.expected_errors import raises

CHALLENGE = bytes(range(32))


@pytest.fixture
def environ(socket_path):
    """Environment variables that the demo sets in the mode no-namespace."""
    return {
        "SGX_AESM_ADDR": "1",
        "CONFCOM_AESM_SOCKET": str(socket_path),
        "CONFCOM_SGX_ENCLAVE_DEVICE": "/dev/null",
        "CONFCOM_SGX_PLATFORM": "simulated",
        "CONFCOM_SGX_EPC_MIB": "10",
        "CONFCOM_CHALLENGE": CHALLENGE.hex(),
    }


@pytest.fixture
def work(environ):
    def call(*argv, hold=None, **changes):
        lines = []
        merged = {name: value for name, value in {**environ, **changes}.items() if value is not None}
        run(
            WorkloadSettings.read(argv, merged),
            environ=merged,
            say=lines.append,
            hold=hold,
            clock=iter([1.0, 1.25]).__next__,
            process_mode=ProcessMode(),
        )
        return lines

    return call


def quote_in(lines):
    (line,) = [line for line in lines if line.startswith("quote: ")]
    return Quote.parse(base64.b64decode(line.removeprefix("quote: "), validate=True))


def test_it_says_what_it_did_and_its_quote_leaves_by_one_line(work, aesmd, socket_path):
    lines = work()
    quote = quote_in(lines)
    enclave = SimulatedEnclave.from_name("confcom sample workload")
    assert quote.body.report_data == CHALLENGE + bytes(32)
    assert quote.body.mr_enclave == enclave.mr_enclave
    assert not quote.body.debug
    assert quote.trailing == b""
    assert {"enclave memory: 10 MiB", "challenge: 32 bytes", f"AESM socket: {socket_path}"} <= set(lines)
    assert lines[-1] == f"done: a quote of {len(quote.encode())} bytes in 250.0 ms"


def test_what_it_is_not_told_it_says_so(work, aesmd):
    lines = work(CONFCOM_SGX_PLATFORM=None, CONFCOM_SGX_EPC_MIB=None, CONFCOM_CHALLENGE=None)
    assert lines[:2] == [
        "SGX platform: not told (CONFCOM_SGX_PLATFORM is not set)",
        "enclave memory: not told (CONFCOM_SGX_EPC_MIB is not set)",
    ]
    assert quote_in(lines).body.report_data == bytes(64)
    assert quote_in(work(CONFCOM_CHALLENGE="ab" * 64)).body.report_data == b"\xab" * 64


def test_another_enclave(work, aesmd):
    assert quote_in(work("--enclave", "mine")).body.mr_enclave == SimulatedEnclave.from_name("mine").mr_enclave


def test_the_device_is_open_while_it_quotes_and_holds(work, aesmd):
    def descriptors():
        return sum(link.is_char_device() and link.samefile("/dev/null") for link in Path("/proc/self/fd").iterdir())

    before, during = descriptors(), []
    work("--hold", "7", hold=lambda seconds: during.append((seconds, descriptors())))
    assert during == [(7, before + 1)]
    assert descriptors() == before


def test_without_the_variable_it_asks_nobody(work, aesmd):
    with pytest.raises(InProcessQuotingError):
        work(SGX_AESM_ADDR=None)
    assert aesmd.asked == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("CONFCOM_SGX_PLATFORM", "hardware", "platform-not-simulated"),
        *(("CONFCOM_CHALLENGE", value, "variable-refused") for value in ("xy", "abc")),
        ("CONFCOM_CHALLENGE", "00" * 65, "variable-refused"),
        *(("CONFCOM_SGX_EPC_MIB", value, "variable-refused") for value in ("ten", "1.5", "-1", "\udcff", "\u0663")),
    ],
)
def test_variables_that_cannot_be(work, name, value, code):
    with raises(code, SettingsError, "why", "remedy", naming=name if code != "platform-not-simulated" else repr(value)):
        work(**{name: value})


@pytest.mark.parametrize(
    ("option", "values"), [("--hold", ["-1", "7.5", "nan", "soon", ""]), ("--enclave", ["\udcff"])]
)
def test_options_that_cannot_be(work, capsys, option, values):
    for value in values:
        with pytest.raises(SystemExit) as caught:
            work(f"{option}={value}")
        assert caught.value.code == 2
        assert option in capsys.readouterr().err


def test_the_first_device_that_exists_is_opened(work, environ, tmp_path):
    del environ["CONFCOM_SGX_ENCLAVE_DEVICE"]
    assert WorkloadSettings.read([], environ).devices == (Path("/dev/sgx_enclave"), Path("/dev/sgx/enclave"))
    with open_enclave_device([tmp_path / "absent", Path("/dev/null"), Path("/dev/zero")]) as path:
        assert path == Path("/dev/null")
    absent = tmp_path / "sgx_enclave"
    with raises("no-enclave-device", NoEnclaveDeviceError, "why", naming=str(absent)) as caught:
        work(CONFCOM_SGX_ENCLAVE_DEVICE=str(absent))
    assert "sgx_epc_mem_in_MiB" in caught.value.remedy
    (tmp_path / "file").write_bytes(b"")
    for name, code in (("file", "no-enclave-device"), ("", "no-enclave-device")):
        with raises(code, NoEnclaveDeviceError, "why", "remedy"), open_enclave_device([tmp_path / name]):
            pytest.fail("it was opened")


def start(environ, *argv):
    return subprocess.Popen(
        [sys.executable, "-m", "confcom.sample_workload", *argv],
        env={**environ, "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_as_a_program_it_fails_with_the_reason(environ):
    process = start(environ)
    out, err = process.communicate()
    assert process.returncode == 6
    assert "quote: " not in out
    assert err.startswith("error: ")
    assert environ["CONFCOM_AESM_SOCKET"] in err


def test_a_held_program_ends_with_0_at_sigterm(environ, aesmd):
    process = start(environ, "--hold", "3600")
    assert any(line.startswith("holding") for line in process.stdout)
    state = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")  # S: sleeping
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_program_that_waits_for_its_quote_can_be_ended(environ, aesmd, number, code):
    aesmd.hang.clear()
    process = start(environ)
    wait_until(lambda: aesmd.asked)
    process.send_signal(number)
    process.communicate()
    assert process.returncode == code


def test_whom_to_expect_is_known_without_device_or_service(environ):
    process = start({"CONFCOM_AESM_SOCKET": "/nowhere"}, "--print-identity", "--enclave", "mine")
    enclave = SimulatedEnclave.from_name("mine")
    assert json.loads(process.communicate()[0]) == {
        "mr_enclave": enclave.mr_enclave.hex(),
        "mr_signer": enclave.mr_signer.hex(),
    }
    assert process.returncode == 0


def result_in(text):
    (line,) = [line for line in text.splitlines() if line.startswith(RESULT_PREFIX)]
    return json.loads(line.removeprefix(RESULT_PREFIX))


def test_a_program_can_read_the_result(work, aesmd):
    lines = work("--print-result")
    assert result_in("\n".join(lines)) == {"quote_ms": 250.0}
    assert quote_in(lines)


def test_without_an_enclave_it_asks_aesm_on_any_platform(work, aesmd):
    lines = work("--no-quote", "--print-result", CONFCOM_SGX_PLATFORM="hardware")
    assert result_in("\n".join(lines)) == {"quote_ms": None}
    assert not any(line.startswith("quote: ") for line in lines)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"CONFCOM_SGX_ENCLAVE_DEVICE": "/dev/none"}, "no-enclave-device"),
        ({}, "no-socket"),
    ],
)
def test_a_failure_has_its_code_in_the_result(environ, monkeypatch, capsys, changes, code):
    for name, value in {**environ, **changes}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["--no-quote", "--print-result"]) != 0
    assert result_in(capsys.readouterr().out)["error"]["code"] == code
