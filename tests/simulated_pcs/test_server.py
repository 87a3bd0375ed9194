import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from confcom.collateral import FetchError, Source, fetch_collateral
from confcom.errors import SettingsError, UnavailableError
from confcom.quote_provider.state_directory import open_or_create_platform
from confcom.simulated_pcs.answers import Answer, answer
from confcom.simulated_pcs.server import Server, tls_context
from confcom.simulation.collateral_staging import Staging
from confcom.verify import verify
from confcom.verify.prepared_collateral import Collateral
from testkit.certificates import own_authority
from testkit.expected_errors import raises
from testkit.helper_process import http_get
from testkit.verify.td_lab import TdxLab
from testkit.verify.verify_lab import Lab

HERE = "127.0.0.1", 0
PATH = "/sgx/certification/v4/"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def platform(state):
    return open_or_create_platform(state).platform


@pytest.fixture(scope="module")
def evidence(platform):
    return Lab(platform=platform).evidence()


@pytest.fixture(scope="module")
def quote(evidence):
    return evidence.quote


@pytest.fixture(scope="module")
def judged(platform, evidence):
    policy = Lab(platform=platform).policy
    return lambda collateral: verify(evidence.quote, policy, collateral, root=evidence.trusted)


@pytest.fixture
def serve(platform):
    with contextlib.ExitStack() as stack:

        def start(staging=Staging.NONE, *, pccs=False, answers=None, **options):
            def of_now(target):
                return answer(target, platform, datetime.now(UTC), staging, pccs=pccs)

            lines, statuses = [], []
            server = Server(*HERE, answers or of_now, log=lines.append, count=statuses.append, **options)
            stack.enter_context(server.serving())
            server.lines, server.statuses = lines, statuses
            return server

        yield start


def connect(server):
    return socket.create_connection(server.server_address[:2], timeout=20)


def get(server, target=f"{PATH}rootcacrl"):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", target)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()


@pytest.mark.parametrize("pccs", [False, True], ids=["PCS", "PCCS"])
@pytest.mark.parametrize(
    "case",
    [
        (Staging.NONE, {}, 1, "UpToDate"),
        (Staging.EARLY, {}, 1, "UpToDate"),
        (Staging.EARLY, {"early": True}, 2, "OutOfDate"),
        (Staging.EARLY, {"evaluation": 1}, 1, "UpToDate"),
        (Staging.EARLY, {"evaluation": 2}, 2, "OutOfDate"),
        (Staging.OUT_OF_DATE, {}, 2, "OutOfDate"),
    ],
)
def test_what_our_client_fetches(serve, quote, judged, pccs, case):
    staging, options, number, status = case
    collateral = fetch_collateral(quote, Source(serve(staging, pccs=pccs).url), **options)
    verdict = judged(collateral)
    assert (collateral.evaluation_number, verdict.tcb_status) == (number, status)
    assert verdict.ok is (status == "UpToDate")


def test_a_set_that_has_gone_is_told_to_our_client(serve, quote):
    server = serve(Staging.OUT_OF_DATE)
    with pytest.raises(FetchError, match=r"answered 410.*the sets have the numbers 2"):
        fetch_collateral(quote, Source(server.url), evaluation=1)


DCAP_QVL = """
import asyncio, os, sys, dcap_qvl
quote = bytes.fromhex(sys.stdin.read())
async def fetch():
    return await dcap_qvl.get_collateral(sys.argv[1], quote)
print(asyncio.run(fetch()).to_json(), flush=True)
os._exit(0)  # the process can die of its runtime's end
"""


@pytest.mark.parametrize("pccs", [False, True], ids=["PCS", "PCCS"])
@pytest.mark.parametrize("lab_of", [Lab, TdxLab])
def test_what_dcap_qvl_and_our_client_fetch_verifies(serve, platform, evidence, lab_of, pccs):
    lab = lab_of(platform)
    child = [sys.executable, "-c", DCAP_QVL, url := serve(pccs=pccs).url]
    done = subprocess.run(child, input=lab.quote().hex(), capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    made = lab.collateral(datetime.now(UTC))
    for collateral in (Collateral.from_json(done.stdout), fetch_collateral(lab.quote(), Source(url))):
        assert (collateral.tcb_info, collateral.qe_identity) == (made.tcb_info, made.qe_identity)
        assert verify(lab.quote(), lab.policy, collateral, root=evidence.trusted).ok


NODE = """
const { getCollateral, QuoteVerifier } = require("@phala/dcap-qvl");
const [url, ...hex] = process.argv.slice(1);
const [quote, root] = hex.map((text) => Buffer.from(text, "hex"));
const judge = (collateral) =>
  QuoteVerifier.newWithRootCa(root).verify(quote, collateral, Math.floor(Date.now() / 1000)).status;
getCollateral(url, quote).then((collateral) => {
  const ours = JSON.parse(require("fs").readFileSync(0));
  console.log(JSON.stringify([collateral.tcb_info, judge(collateral), judge(ours)]));
});
"""
NODE_PACKAGES = Path(__file__).parents[2] / "requirements" / "node"


@pytest.mark.parametrize("pccs", [False, True], ids=["PCS", "PCCS"])
@pytest.mark.parametrize("case", [(Staging.NONE, "UpToDate"), (Staging.OUT_OF_DATE, "OutOfDate")], ids=["new", "old"])
def test_what_dcap_qvl_for_node_fetches_verifies(serve, platform, quote, pccs, case):
    staging, status = case
    if not (node := shutil.which("node")) or not (NODE_PACKAGES / "node_modules").exists():
        pytest.skip("no Node.js, or not its package dcap-qvl: `make node` installs it")
    collateral = Lab(platform).collateral(datetime.now(UTC), staging=staging)
    child = [node, "-e", NODE, serve(staging, pccs=pccs).url, quote.hex(), platform.pki.root.der.hex()]
    piped = {"input": collateral.to_json(), "capture_output": True, "text": True}
    done = subprocess.run(child, **piped, cwd=NODE_PACKAGES, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    tcb_info, *statuses = json.loads(done.stdout)
    assert json.loads(tcb_info) == json.loads(collateral.tcb_info)["tcbInfo"]
    assert statuses == [status, status]


def test_by_tls_with_an_authority_of_its_own(serve, quote, judged, tmp_path):
    authority, both = own_authority(tmp_path)
    server = serve(tls=tls_context(both, None), deadline_seconds=2)
    with contextlib.closing(connect(server)):  # a client without a TLS handshake
        collateral = fetch_collateral(quote, Source(server.url, ca_file=authority))
    assert judged(collateral).ok
    assert get_raw(server, b"GET /livez HTTP/1.1\r\n\r\n") == b""  # plain HTTP without TLS
    assert not [line for line in server.lines if "failed" in line]
    for wrong in ((authority, None), (tmp_path / "none", None), (both, authority)):
        with raises("serving-certificate", SettingsError, "why", "remedy"):
            tls_context(*wrong)


def get_raw(server, data):
    with contextlib.closing(connect(server)) as client, contextlib.suppress(ConnectionError):
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


def test_an_answer_has_these_headers(serve):
    status, headers, body = get(serve(), f"{PATH}tcb?fmspc=53494d534758")
    assert (status, headers["Content-Length"], headers["Connection"]) == (200, str(len(body)), "close")
    assert headers["Server"] == "confcom"


def test_requests_are_counted_and_none_is_logged(serve):
    server = serve()
    get(server)
    get(server, "/none")
    get_raw(server, b"nonsense\r\n\r\n")
    assert server.statuses == ["200", "404", "400"]
    assert server.lines == []


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        *((method + b" /livez HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b" 501 ") for method in (b"POST", b"HEAD")),
        (b"nonsense\r\n\r\n", b" 400 "),
        (b"GET /livez HTTP/9.9\r\n\r\n", b" 505 "),
        (b"GET /\xff\x1b[2J HTTP/1.1\r\n\r\n", b" 404 "),
        (b"GET /livez HTTP/1.1\r\n" + b"a: b\r\n" * 150 + b"\r\n", b" 431 "),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b""),
        (b"GET /livez HTTP/1.1\r\nx: " + b"x" * 9000 + b"\r\n\r\n", b""),
        (b"GET /livez", b""),
        (b"", b""),
    ],
)
def test_requests_that_are_not_answered_well(serve, sent, status):
    server = serve(deadline_seconds=0.5)
    answered = get_raw(server, sent).split(b"\r\n")[0]
    assert status in answered if status else answered == b""
    assert get(server)[0] == 200


def test_slow_and_half_requests_do_not_stop_others(serve):
    server = serve(deadline_seconds=3)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(connect(server))) for _ in range(20)]
        for client in clients[:10]:
            client.sendall(b"GET /livez HTTP/1.1\r\n")
        begun = time.monotonic()
        assert all(get(server)[0] == 200 for _ in range(20))
        assert time.monotonic() - begun < 3
        with contextlib.suppress(ConnectionError):  # slow bytes do not extend a deadline
            while time.monotonic() - begun < 10:
                clients[0].sendall(b"x")
                time.sleep(0.1)
        assert time.monotonic() - begun < 10


def test_when_all_places_are_taken_the_next_one_waits(serve):
    server = serve(max_connections=2, deadline_seconds=1)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(contextlib.closing(connect(server)))
        begun = time.monotonic()
        assert get(server)[0] == 200
        assert 0.5 < time.monotonic() - begun < 10
    assert [get(server)[0] for _ in range(5)] == [200] * 5


def test_a_client_that_reads_nothing_is_left(serve):
    server = serve(answers=lambda _: Answer(200, bytes(1 << 26)), max_connections=1, deadline_seconds=1)
    with contextlib.closing(connect(server)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert get(server)[0] == 200


def test_our_own_mistake_is_logged(serve):
    server = serve(answers=lambda _: 1 / 0)
    assert get_raw(server, b"GET / HTTP/1.1\r\n\r\n") == b""
    assert "ZeroDivisionError" in server.lines[-1]


def test_an_address_that_cannot_be_had(serve):
    for host, port in (urlsplit(serve().url).netloc.split(":"), ("192.0.2.1", 0), ("no.invalid", 1)):
        with raises("serving-address-not-available", UnavailableError, "why", "remedy"):
            Server(host, int(port), answer, log=print)


def test_an_address_of_ipv6():
    try:
        server = Server("::1", 0, lambda _: Answer(200, b""), log=print)
    except UnavailableError:
        pytest.skip("this machine has no IPv6")
    with server.serving():
        assert server.url == f"http://[::1]:{server.server_address[1]}"
        assert get(server)[0] == 200


def test_all_addresses_of_this_machine():
    server = Server("", 0, lambda _: Answer(200, b""), log=print)
    with server.serving(), socket.create_connection(("127.0.0.1", server.server_address[1])) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 200")


def run(*arguments, **streams):
    line = [sys.executable, "-m", "confcom", "collateral", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **streams)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_it_is_told_to_end(state, quote, tmp_path, number):
    (tmp_path / "q.bin").write_bytes(quote)
    probes = tmp_path / "probes"
    options = ("--state-dir", state, "--address", "127.0.0.1:0", "--probe-address", f"unix:{probes}")
    with run("serve", *options, "--staging", "early") as server:
        try:
            server.stderr.readline()  # skip a line about probes
            (url,) = re.findall(r"http://\S+", server.stderr.readline())
            fetched = run("fetch", tmp_path / "q.bin", "--from", url, "--early", "--out", tmp_path / "c", "-o", "json")
            facts, problems = fetched.communicate(timeout=50)
            assert fetched.returncode == 0, problems
            assert json.loads(facts)["evaluation_number"] == 2
            assert 'confcom_simulated_pcs_requests_total{status="200"} 4.0' in http_get(probes, "/metrics")[1]
            place = urlsplit(url)
            with contextlib.closing(socket.create_connection((place.hostname, place.port))):  # must not delay it
                server.send_signal(number)
                assert server.wait(40) == 0
            assert "/tcb?fmspc" not in server.stderr.read()
        finally:
            server.kill()


REFUSED = ["--tls-key=/none", "--tls-cert=/none", "--address=here", "--address=unix:/a", "--staging=x", "--state-dir=."]


@pytest.mark.parametrize("option", REFUSED)
def test_a_command_that_cannot_be_meant(state, platform, tmp_path, option):
    with run("serve", "--state-dir", state, option, cwd=tmp_path) as done:
        code, words = (6, "confcom simulation create") if "state" in option else (2, "do:")
        assert done.wait(50) == code
        assert words in done.stderr.read()
