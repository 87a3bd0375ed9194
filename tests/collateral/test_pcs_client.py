import asyncio
import os
import pickle
import socket
import socketserver
import threading

import pytest

from confcom.collateral import (
    AZURE_CACHE,
    INTEL_PCS,
    FetchError,
    Source,
    fetch_collateral,
    fetch_collateral_async,
)
from confcom.collateral.source import INTEL_ROOT_CRL_URL, SourceError
from confcom.errors import MalformedError, SettingsError
from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.tee_type import TeeType
from confcom.simulated_pcs.answers import TDX_API_PATH
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import verify
from testkit.certificates import own_authority
from testkit.collateral_caches import EVIDENCE, FOR_TDX, LAB, TD_QUOTE
from testkit.collateral_service import answers_of, serving
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED


@pytest.mark.parametrize("pccs", [True, False], ids=["PCCS", "PCS"])
@pytest.mark.parametrize("ca", PCK_CAS)
def test_what_is_fetched_verifies(pccs, ca):
    evidence = LAB.evidence(platform=SimulatedPlatform.create(SEED, NOW, ca=ca))
    with serving(answers_of(evidence.collateral, pccs=pccs)) as (service, url):
        collateral = fetch_collateral(evidence.quote.hex(), Source(url))
    assert collateral == evidence.collateral
    assert verify(evidence.quote, LAB.policy, collateral, root=evidence.trusted, now=NOW).ok
    assert service.asked == [
        ("tcb", {"fmspc": "53494d534758"}),
        ("qe/identity", {}),
        ("pckcrl", {"ca": ca.lower(), "encoding": "der"}),
        ("rootcacrl", {}),
    ]


@pytest.mark.parametrize("prefix", ["", "/pccs", "/sgx/pccs"])
def test_tdxs_documents_have_paths_of_their_own(prefix):
    sgx, tdx = f"{prefix}/sgx/certification/v4/", f"{prefix}/tdx/certification/v4/"
    names = {f"{TDX_API_PATH}{name}": f"{tdx}{name}" for name in ("tcb", "qe/identity")}
    answers = answers_of(FOR_TDX)
    answers |= {names.get(name, f"{sgx}{name}"): answer for name, answer in answers.items()}
    with serving(answers) as (service, url):
        for path in (sgx, sgx.rstrip("/"), *([""] if not prefix else [])):
            assert fetch_collateral(TD_QUOTE, Source(f"{url}{path}", api_key="secret")) == FOR_TDX
    shown = "" if not prefix else sgx
    assert service.asked[-4:] == [
        (f"{tdx}tcb", {"fmspc": "53494d534758"}),
        (f"{tdx}qe/identity", {}),
        (f"{shown}pckcrl", {"ca": "platform", "encoding": "der"}),
        (f"{shown}rootcacrl", {}),
    ]
    assert {headers["Ocp-Apim-Subscription-Key"] for headers in service.headers} == {"secret"}


def test_an_address_without_a_path_for_tdx():
    for path in ("/pccs", "/tdx/certification/v4"):
        with serving({}) as (service, url):
            with raises("collateral-source", SourceError, "why", "remedy"):
                fetch_collateral(TD_QUOTE, Source(f"{url}{path}"))
            assert not service.asked
            with raises("source-unknown-platform", FetchError):
                fetch_collateral(EVIDENCE.quote, Source(f"{url}{path}"))
    assert Source("https://sgx/sgx/certification/v4").base_of(TeeType.TDX) == "https://sgx/tdx/certification/v4/"


def test_the_other_tees_set_is_refused():
    sgx, tdx = answers_of(EVIDENCE.collateral), answers_of(FOR_TDX)
    swapped = sgx | {f"{TDX_API_PATH}{name}": sgx[name] for name in ("tcb", "qe/identity")}
    swapped |= {name: tdx[f"{TDX_API_PATH}{name}"] for name in ("tcb", "qe/identity")}
    mixed = swapped | {"tcb": sgx["tcb"], f"{TDX_API_PATH}tcb": tdx[f"{TDX_API_PATH}tcb"]}
    for answers in (swapped, mixed):
        for quote in (EVIDENCE.quote, TD_QUOTE):
            with serving(answers) as (_, url), raises("collateral-of-another-set", FetchError, "why", "remedy"):
                fetch_collateral(quote, Source(url))


def test_it_is_fetched_in_an_event_loop(service):
    async def fetch(url):
        with raises("wrong-value", SettingsError, "remedy"):
            fetch_collateral(EVIDENCE.quote, Source(url))
        return await fetch_collateral_async(EVIDENCE.quote, Source(url))

    assert asyncio.run(fetch(service.url)) == EVIDENCE.collateral


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"early": True}, {"update": "early"}), ({"evaluation": 1}, {"tcbEvaluationDataNumber": "1"})],
)
def test_a_set_is_asked_for(options, asked, service):
    assert fetch_collateral(EVIDENCE.quote, Source(service.url), **options) == EVIDENCE.collateral
    assert service.asked[0] == ("tcb", {"fmspc": "53494d534758"} | asked)
    assert service.asked[1] == ("qe/identity", asked)


def test_another_set_than_asked_for_is_refused(service):
    with raises("collateral-of-another-set", FetchError, "why"):
        fetch_collateral(EVIDENCE.quote, Source(service.url), evaluation=7)


def test_a_service_says_why_and_when():
    answer = (503, {"Error-Message": "the cache is down", "Retry-After": "120"}, b"")
    with serving({"tcb": answer}) as (_, url), raises("source-failed", FetchError) as caught:
        fetch_collateral(EVIDENCE.quote, Source(url))
    assert "the cache is down" in caught.value.why
    assert pickle.loads(pickle.dumps(caught.value)).retry_after == "120"


def test_a_name_that_nobody_resolves(monkeypatch):
    """Neither the call nor its event loop waits for the resolver."""
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(50))
    try:
        with raises("source-silent", FetchError, "why", "remedy"):
            fetch_collateral(EVIDENCE.quote, Source("https://pcs.test"), seconds=0.2)
    finally:
        released.set()

    def fail(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    for url in ("https://pcs.test", "https://\xe4..b.test"):
        with raises("source-name", FetchError, "why", "remedy"):
            fetch_collateral(EVIDENCE.quote, Source(url))


def test_the_key_goes_to_the_service_alone():
    answers = answers_of(EVIDENCE.collateral)
    root = {"rootcacrl": answers.pop("rootcacrl")}
    with serving(answers) as (service, url), serving(root) as (other, elsewhere):
        source = Source(url, f"{elsewhere}/sgx/certification/v4/rootcacrl", api_key="secret")
        assert fetch_collateral(EVIDENCE.quote, source) == EVIDENCE.collateral
    assert "secret" not in repr(source)
    assert {headers["Ocp-Apim-Subscription-Key"] for headers in service.headers} == {"secret"}
    assert "secret" not in str(other.headers)


def test_a_file_without_an_authority(tmp_path):
    for wrong in (tmp_path / "none.pem", tmp_path):
        with raises("source-ca-file", FetchError, "why", "remedy"):
            fetch_collateral(EVIDENCE.quote, Source("https://pcs.test", ca_file=wrong))


def test_https_to_a_service_of_http(service):
    with raises("source-tls", FetchError, "why", "remedy"):
        fetch_collateral(EVIDENCE.quote, Source(service.url.replace("http:", "https:")))


def test_a_damaged_record_of_tls(tmp_path):
    authority, certificate = own_authority(tmp_path)

    def damage(handler):
        os.write(handler.connection.fileno(), bytes([23, 3, 3, 0, 32]) + bytes(32))

    with serving({"tcb": damage}, certificate) as (_, url), raises("source-tls", FetchError, "why", "remedy"):
        fetch_collateral(EVIDENCE.quote, Source(url, ca_file=authority))


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_the_proxy_of_the_environment_is_used_by_tls(monkeypatch, scheme):
    """Requests by plain http stay on this machine."""
    asked = []

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self):
            asked.append(self.request.recv(1000))

    with socketserver.TCPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_address[1]}")
        with raises("source-protocol" if scheme == "https" else "source-not-reached", FetchError, "remedy"):
            fetch_collateral(EVIDENCE.quote, Source(f"{scheme}://localhost:9/", api_key="secret"))
        server.shutdown()
    assert bool(asked) == (scheme == "https")
    assert b"secret" not in b"".join(asked)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "127.0.0.1:1x"])
def test_a_proxy_that_cannot_be_used(monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    with raises("source-proxy", FetchError, "why", "remedy"):
        fetch_collateral(EVIDENCE.quote, Source("https://pcs.test"))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pcs",
        "ftp://pcs.test/",
        "http://pcs.test/sgx/certification/v4/",
        "https://pcs.test/sgx/certification/v3/",
        "https://pcs.test/sgx/certification/V3/",
        "https://pcs.test/sgx/certification/v2/",
        "https://pcs.test/sgx/certification/v3",
        "https://pcs.test\n/",
        "https://user:secret@pcs.test/",
        "https://pcs.test/?key=secret",
        "https://:secret@pcs.test/",
        "https://[",
    ],
)
def test_an_address_that_cannot_be_meant(url):
    with raises("collateral-source", SourceError, "remedy") as caught:
        Source(url)
    assert "secret" not in str(caught.value)


def test_addresses():
    for path in ("", "/", "/sgx/certification/v4", "/sgx/certification/v4/"):
        url = f"https://h:8081{path}"
        assert Source(url).base == "https://h:8081/sgx/certification/v4/"
        assert Source(url).root_crl == "https://h:8081/sgx/certification/v4/rootcacrl"
    assert INTEL_PCS.root_crl == AZURE_CACHE.root_crl == INTEL_ROOT_CRL_URL
    with raises("wrong-type", SettingsError, "remedy"):
        Source(None)
    with raises("collateral-source", SourceError, "why", "remedy"):
        Source("https://pcs.test", "http://pcs.test/root.crl")


def test_arguments_that_cannot_be_meant():
    for name in ("url", "root_crl_url", "api_key"):
        with raises("wrong-type", SettingsError, "remedy"):
            Source(**({"url": "https://pcs.test"} | {name: b"bytes"}))
    with raises("collateral-source", SourceError, "remedy"):
        Source("https://pcs.test", api_key="\ufffd")
    with raises("wrong-type", SettingsError, "remedy"):
        fetch_collateral(3, INTEL_PCS)
    for arguments, code in (
        (("https://pcs.test",), "wrong-type"),
        ((INTEL_PCS, {"early": True, "evaluation": 3}), "wrong-value"),
        ((INTEL_PCS, {"evaluation": -1}), "wrong-value"),
        ((INTEL_PCS, {"evaluation": "x"}), "wrong-type"),
        ((INTEL_PCS, {"early": "x"}), "wrong-type"),
    ):
        source, options = (*arguments, {})[:2]
        with raises(code, SettingsError, "remedy"):
            fetch_collateral(EVIDENCE.quote, source, **options)
    with pytest.raises(MalformedError):
        fetch_collateral(b"junk", INTEL_PCS)
