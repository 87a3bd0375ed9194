import asyncio
import logging
from pathlib import Path

import pytest

from confcom.client import AesmClient, AsyncAesmClient, request_quote, request_quote_async
from confcom.client.address import aesm_socket_path
from confcom.client.mode import InProcessQuotingError, MixedModeError, ProcessMode, QuotingMode, choose_mode
from confcom.errors import ExitCode
from confcom.sgx.quote import Quote
from confcom.simulation.enclave import SimulatedEnclave
from testkit.expected_errors import raises
from testkit.programs import run_python

OUT = {"SGX_AESM_ADDR": "1"}
ENCLAVE = SimulatedEnclave.from_name("mode test")


def make_report(target_info):
    return ENCLAVE.create_report(target_info, bytes(64))


@pytest.fixture(params=["blocking", "asyncio"])
def request_one(request):
    def call(*args, **kwargs):
        if request.param == "blocking":
            return request_quote(*args, **kwargs)
        return asyncio.run(request_quote_async(*args, **kwargs))

    call.client = AesmClient if request.param == "blocking" else AsyncAesmClient
    return call


def test_the_presence_of_the_variable_decides_not_its_value():
    for value in ("1", "0", "", "/some/where"):
        assert choose_mode({"SGX_AESM_ADDR": value}).mode is QuotingMode.OUT_OF_PROCESS
    assert choose_mode({"SGX_AESM_ADD": "1"}).mode is QuotingMode.IN_PROCESS


@pytest.mark.parametrize(("first", "second"), [(OUT, {}), ({}, OUT)])
def test_one_process_uses_one_way(first, second):
    mode = ProcessMode()
    assert mode.settle(choose_mode(first)) == choose_mode(first)
    assert mode.settle(choose_mode(first)) == choose_mode(first)
    with raises("mixed-quoting-modes", MixedModeError, "remedy", naming=choose_mode(second).mode.value) as caught:
        mode.settle(choose_mode(second))
    assert choose_mode(first).mode.value in caught.value.why
    assert mode.settle(choose_mode(first)) == choose_mode(first), "the refusal changed nothing"


def test_out_of_process_asks_the_named_socket(request_one, aesmd, socket_path, caplog):
    environ = {**OUT, "CONFCOM_AESM_SOCKET": str(socket_path)}
    with caplog.at_level(logging.INFO, "confcom.client"):
        quoted = request_one(make_report, environ=environ, process_mode=ProcessMode())
    assert Quote.parse(quoted.quote).body.mr_enclave == ENCLAVE.mr_enclave
    assert str(choose_mode(environ)) in caplog.text
    assert str(socket_path) in caplog.text


@pytest.mark.parametrize("environ", [OUT, {}], ids=["set", "not set"])
def test_a_given_client_is_a_choice_too(request_one, aesmd, socket_path, environ):
    client, mode = request_one.client(socket_path), ProcessMode()
    assert request_one(make_report, client=client, environ=environ, process_mode=mode).quote
    with raises("mixed-quoting-modes", MixedModeError):
        request_one(make_report, environ={}, process_mode=mode)


def test_in_process_says_plainly_what_is_missing_and_asks_nobody(request_one, aesmd, socket_path):
    environ = {"CONFCOM_AESM_SOCKET": str(socket_path)}
    with raises("in-process-unsupported", InProcessQuotingError, "why") as caught:
        request_one(make_report, environ=environ, process_mode=ProcessMode())
    assert "SGX_AESM_ADDR=1" in caught.value.remedy
    assert caught.value.exit_code is ExitCode.UNAVAILABLE
    assert aesmd.asked == []


def test_the_process_itself_remembers(socket_path):
    program = (
        "import os\n"
        "from confcom.client import request_quote\n"
        "from confcom.errors import ConfcomError\n"
        "for set_it in (True, False):\n"
        "    if not set_it: del os.environ['SGX_AESM_ADDR']\n"
        "    try: request_quote(lambda target: None)\n"
        "    except ConfcomError as error: print(type(error).__name__)\n"
    )
    result = run_python("-c", program, env={"SGX_AESM_ADDR": "", "CONFCOM_AESM_SOCKET": str(socket_path)})
    assert result.stdout.split() == ["ServiceUnreachableError", "MixedModeError"], result.stderr


def test_where_the_service_is_looked_for(monkeypatch):
    usual = "/var/run/aesmd/aesm.socket"
    for environ, expected in (
        ({}, usual),
        ({"CONFCOM_AESM_SOCKET": ""}, usual),
        ({"CONFCOM_AESM_SOCKET": "/x/y"}, "/x/y"),
        ({"SGX_AESM_ADDR": "/x/y"}, usual),
    ):
        assert aesm_socket_path(environ) == Path(expected)
        for client in (AesmClient, AsyncAesmClient):
            assert client(environ=environ).socket_path == Path(expected)
    monkeypatch.setenv("CONFCOM_AESM_SOCKET", "/made/now")
    for client in (AesmClient, AsyncAesmClient):
        assert client().socket_path == Path("/made/now")
        assert client("/given").socket_path == Path("/given")
