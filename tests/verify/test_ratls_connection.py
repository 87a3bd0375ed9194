import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
from unittest.mock import Mock

import httpx2
import pytest

from confcom.errors import ConfcomError, SettingsError
from confcom.extras import MissingExtraError
from confcom.verify import NotVerifiedError, VerdictKind
from confcom.verify.ratls import (
    AttestedSocket,
    ConnectError,
    Form,
    RatlsTransport,
    client_context,
    connect,
    make_certificate,
)
from testkit.expected_errors import raises
from testkit.programs import run_python
from testkit.verify.ratls_lab import ANSWER, KEY, OTHER, certificate_with, interoperable, serving, write_identity
from testkit.verify.verify_lab import run_verify

REQUEST = b"POST / HTTP/1.1\r\nSecret: 1\r\n\r\n"


def by_connect(port, arguments):
    with connect("127.0.0.1", port, **arguments) as connection:
        assert connection.verdict.ok
        connection.sendall(REQUEST)
        return connection.recv(4096)


def by_context(port, arguments):
    with socket.create_connection(("127.0.0.1", port)) as plain, client_context(**arguments).wrap_socket(plain) as made:
        made.write(REQUEST)
        buffer = bytearray(4096)
        return bytes(buffer[: made.recv_into(buffer)])


def by_httpx(port, arguments):
    with httpx2.Client(transport=RatlsTransport(**arguments)) as client:
        first = client.post(f"https://127.0.0.1:{port}/", headers={"Secret": "1"})
        assert client.get(f"https://127.0.0.1:{port}/").content == first.content  # the same connection
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + first.content


def by_asyncio(port, arguments):
    async def exchange():
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(**arguments))
        writer.write(REQUEST)
        answer = await reader.read(4096)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return answer

    return asyncio.run(exchange())


CLIENTS = [by_connect, by_context, by_httpx, by_asyncio]


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_verified_peer_answers(ask, version, peer, tmp_path):
    with serving(make_certificate(peer.quote_for, KEY), KEY, tmp_path, version) as service:
        assert ask(service.port, peer.arguments) == ANSWER
    (received,) = service.received
    assert b"Secret: 1" in received


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_td_answers_if_the_policy_is_about_it(ask, peer, td_peer, tmp_path):
    others = [(td_peer.demanding(**{name: b"?" * 48}), [code]) for name, code in (("mr_td", "mr-td"), ("rtmr2",) * 2)]
    with serving(make_certificate(td_peer.quote_for, KEY), KEY, tmp_path) as service:
        for policy, codes in (*others, (peer.policy, ["tee"])):
            with pytest.raises(NotVerifiedError) as caught:
                ask(service.port, {**td_peer.arguments, "policy": policy})
            assert [check.code for check in caught.value.verdict.failures] == codes
            assert caught.value.verdict.kind is VerdictKind.AUTHENTIC_NOT_AUTHORISED
        assert b"".join(service.received) == b""
        assert ask(service.port, td_peer.arguments) == ANSWER
    enclave = serving(make_certificate(peer.quote_for, KEY), KEY, tmp_path)
    with enclave as service, pytest.raises(NotVerifiedError, match="tee"):
        ask(service.port, {**peer.arguments, "policy": td_peer.policy})


def in_the_middle(peer):
    """The enclave's own evidence, presented by another program with another key."""
    return certificate_with({Form.INTEROPERABLE: interoperable(peer.quote_over, KEY)}, OTHER), OTHER, {}


def another_enclave(peer):
    return make_certificate(peer.quote_for, KEY), KEY, {"mr_enclave": bytes(32)}


def an_authoritys(peer):
    return certificate_with({}, OTHER), OTHER, {}


PEERS = {in_the_middle: "key-binding", another_enclave: "mr-enclave", an_authoritys: "certificate"}


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize(("make", "code"), PEERS.items())
def test_nothing_is_sent_to_another_peer(ask, make, code, peer, tmp_path):
    certificate, key, demands = make(peer)
    arguments = {**peer.arguments, "policy": peer.demanding(**demands)}
    with serving(certificate, key, tmp_path) as service:
        with pytest.raises(NotVerifiedError) as caught:
            ask(service.port, arguments)
        assert service.closed.wait(10)
    assert [check.code for check in caught.value.verdict.failures] == [code]
    assert b"".join(service.received) == b""


def test_a_replayed_certificate_is_refused(peer, tmp_path):
    with serving(make_certificate(peer.quote_for, KEY, nonce=b"of another client"), KEY, tmp_path) as service:
        with pytest.raises(NotVerifiedError) as caught:
            by_connect(service.port, {**peer.arguments, "nonce": b"mine"})
        assert by_connect(service.port, {**peer.arguments, "nonce": b"of another client"}) == ANSWER
    assert [check.code for check in caught.value.verdict.failures] == ["nonce"]


def test_no_byte_passes_before_the_handshake(peer, tmp_path):
    with serving(make_certificate(peer.quote_for, KEY), KEY, tmp_path) as service:
        plain = socket.create_connection(("127.0.0.1", service.port))
        with client_context(**peer.arguments).wrap_socket(plain, do_handshake_on_connect=False) as connection:
            assert isinstance(connection, AttestedSocket)
            for early in (
                lambda: connection.send(b"x"),
                lambda: connection.sendall(b"x"),
                lambda: connection.write(b"x"),
                lambda: connection.recv(1),
                lambda: connection.verdict,
            ):
                with raises("wrong-value", SettingsError, "remedy"):
                    early()
            connection.do_handshake()
            connection.sendall(REQUEST)
            assert connection.recv(4096) == ANSWER
    memory = client_context(**peer.arguments).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    for early in (lambda: memory.write(b"x"), lambda: memory.read(1)):
        with raises("wrong-value", SettingsError):
            early()


@contextlib.contextmanager
def openssl_serving(certificate, key, directory, *options):
    """Another implementation's TLS service, as a process: its port, and its output once it has ended."""
    if not (openssl := shutil.which("openssl")):
        pytest.skip("no openssl")
    file = write_identity(directory, certificate, key)
    command = [openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", file, "-key", file, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            line = next(line for line in server.stdout if line.startswith(b"ACCEPT"))
            yield int(line.rpartition(b":")[2]), lambda: server.communicate(timeout=10)[0]
        finally:
            server.kill()


@pytest.mark.parametrize("honest", [True, False])
def test_openssl_receives_a_request_only_if_verified(honest, peer, tmp_path):
    certificate, key = (make_certificate(peer.quote_for, KEY), KEY) if honest else in_the_middle(peer)[:2]
    with openssl_serving(certificate, key, tmp_path, "-naccept", "1") as (port, printed):
        refused = contextlib.nullcontext() if honest else pytest.raises(NotVerifiedError, match="key_binding")
        with refused, connect("127.0.0.1", port, **peer.arguments) as connection:
            connection.sendall(REQUEST)
            connection.unwrap().close()  # a reset could overtake the request
        assert (b"Secret: 1" in printed()) is honest


def test_openssl_answers_a_transport_and_the_command(files, lab, peer, tmp_path):
    with openssl_serving(make_certificate(peer.quote_for, KEY), KEY, tmp_path, "-www") as (port, _):
        with httpx2.Client(transport=RatlsTransport(**peer.arguments)) as client:
            assert "TLSv1.3" in client.get(f"https://127.0.0.1:{port}/").text
        demands = ["--mrenclave", lab.enclave.mr_enclave.hex(), "--allow-simulated"]
        assert run_verify(files, "--connect", f"127.0.0.1:{port}", *demands).exit_code == 0


def test_requests_without_tls_are_refused(peer):
    with httpx2.Client(transport=RatlsTransport(**peer.arguments)) as client, raises("wrong-value", SettingsError):
        client.get("http://127.0.0.1:1/")


def test_mistakes_are_told_before_connecting(lab, peer):
    for make in (client_context, RatlsTransport):
        with raises("wrong-value", SettingsError):
            make(lab.policy, peer.collateral)
        with raises("wrong-type", SettingsError):
            make(peer.policy, peer.collateral, nonce="text")
        with raises("wrong-value", SettingsError, "why", "remedy"):
            make(peer.policy, peer.collateral, nonce=b"")


def test_who_does_not_speak_tls_is_told(peer):
    with raises("ratls-not-connected", ConnectError, "why", "remedy"):
        connect("127.0.0.1", 1, **peer.arguments)
    with raises("ratls-not-connected", ConnectError):
        connect(".", 99999, **peer.arguments)
    with socket.create_server(("127.0.0.1", 0)) as silent, raises("ratls-not-connected", ConnectError):
        connect("127.0.0.1", silent.getsockname()[1], seconds=0.2, **peer.arguments)


def test_an_error_of_the_collateral_ends_the_handshake(peer, tmp_path):
    none_there = Mock(side_effect=ConfcomError("no collateral", error_code="none-there"))
    with serving(make_certificate(peer.quote_for, KEY), KEY, tmp_path) as service:
        for ask in CLIENTS:
            with raises("none-there"):
                ask(service.port, {**peer.arguments, "collateral": none_there})
    assert b"".join(service.received) == b""


@pytest.fixture(scope="module")
def files(evidence, tmp_path_factory):
    return evidence.write(tmp_path_factory.mktemp("ratls"))


def test_the_command_verifies_a_service(files, lab, peer, tmp_path):
    demands = ["--mrenclave", lab.enclave.mr_enclave.hex(), "--allow-simulated"]
    with serving(make_certificate(peer.quote_for, KEY), KEY, tmp_path) as service:
        address = ["--connect", f"127.0.0.1:{service.port}", "--output", "json"]
        good, other = run_verify(files, *address, *demands), run_verify(files, *address, "--allow-simulated")
        unreadable = run_verify(files, *address, *demands, "--collateral", "none")
    assert good.exit_code == 0, good.output
    assert json.loads(good.stdout)["checks"][0]["code"] == "key-binding"
    assert (other.exit_code, json.loads(other.stdout)["kind"]) == (3, "authentic-not-authorised")
    assert (unreadable.exit_code, json.loads(unreadable.stdout)["error"]["code"]) == (5, "unreadable")
    assert b"".join(service.received) == b""
    certificate, key, _ = in_the_middle(peer)
    with serving(certificate, key, tmp_path) as service:
        forged = run_verify(files, "--connect", f"127.0.0.1:{service.port}", *demands, "--output", "json")
    assert (forged.exit_code, json.loads(forged.stdout)["kind"]) == (4, "not-authentic")
    assert run_verify(files, *address, *demands).exit_code == 6


def test_the_command_verifies_a_td(td_peer, tmp_path):
    td_peer.evidence.write(tmp_path)
    mr_td = ["--mr-td", td_peer.policy.mr_td.hex(), "--allow-simulated"]
    with serving(make_certificate(td_peer.quote_for, KEY), KEY, tmp_path) as service:
        address = ["--connect", f"127.0.0.1:{service.port}", "--output", "json"]
        for demands, code in ((mr_td, 0), ([*mr_td, "--rtmr1", "ff" * 48], 3), (["--mrenclave", "00" * 32], 3)):
            result = run_verify(tmp_path, *address, *demands)
            claims = json.loads(result.stdout)["claims"]
            assert (result.exit_code, claims and claims["mr_td"]) == (code, mr_td[1] if "--mr-td" in demands else None)
    assert b"".join(service.received) == b""


@pytest.mark.parametrize("arguments", [
    [],
    ["q.bin", "--connect", "127.0.0.1:1"],
    ["--connect", "127.0.0.1"],
    ["--connect", ":1"],
    ["--connect", "127.0.0.1:0"],
    ["--connect", "127.0.0.1:65536"],
    ["--connect", "127.0.0.1:1", "--report-data", "00"],
])  # fmt: skip
def test_a_quote_or_an_address_is_given(files, arguments):
    result = run_verify(files, *arguments, "--output", "json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (2, "command-line-refused")


WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
import confcom.verify
try:
    import confcom.verify.ratls
except ImportError as error:
    print(type(error).__name__, error.error_code, "[ratls]" in error.remedy)
"""
LOADED = "import sys, confcom.verify; print({'cbor2', 'httpx2', 'ssl'} & set(sys.modules))"


@pytest.mark.parametrize("module", ["cbor2", "httpx2"])
def test_the_extra_is_named(module):
    assert run_python("-c", WITHOUT, module).stdout.split() == [MissingExtraError.__name__, "extra-missing", "True"]


def test_verifying_quotes_loads_nothing_of_it():
    assert run_python("-c", LOADED).stdout.strip() == "set()"
