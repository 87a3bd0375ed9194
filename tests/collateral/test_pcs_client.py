import asyncio
import os
import socketserver
import threading
import time

import pytest

from confcom.collateral import AZURE_CACHE, INTEL_PCS, FetchError, Source, fetch_collateral, fetch_collateral_async
from confcom.collateral.source import INTEL_ROOT_CRL_URL, SourceError
from confcom.errors import MalformedError, SettingsError
from confcom.simulation.pki import PckCaType
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import verify
from testkit.certificates import own_authority
from testkit.collateral_service import answers_of, bomb, dripping, endless, serving
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED, Lab


@pytest.fixture(scope="module")
def lab():
    return Lab()


@pytest.fixture(scope="module")
def evidence(lab):
    return lab.evidence()


@pytest.mark.parametrize("pccs", [True, False], ids=["PCCS", "PCS"])
@pytest.mark.parametrize("ca_type", PckCaType)
def test_what_is_fetched_verifies(lab, pccs, ca_type):
    evidence = lab.evidence(platform=SimulatedPlatform.create(SEED, NOW, ca_type=ca_type))
    with serving(answers_of(evidence.collateral, pccs=pccs)) as (service, url):
        collateral = fetch_collateral(evidence.quote.hex(), Source(url))
    assert collateral == evidence.collateral
    assert verify(evidence.quote, lab.policy, collateral, root=evidence.trusted, now=NOW).ok
    assert service.asked == [
        ("tcb", {"fmspc": "53494d534758"}),
        ("qe/identity", {}),
        ("pckcrl", {"ca": ca_type.value, "encoding": "der"}),
        ("rootcacrl", {}),
    ]


def test_it_is_fetched_in_an_event_loop(evidence):
    async def fetch(url):
        with raises("wrong-value", SettingsError, "remedy"):
            fetch_collateral(evidence.quote, Source(url))
        return await fetch_collateral_async(evidence.quote, Source(url))

    with serving(answers_of(evidence.collateral)) as (_, url):
        assert asyncio.run(fetch(url)) == evidence.collateral


@pytest.mark.parametrize(
    ("options", "asked"),
    [({"early": True}, {"update": "early"}), ({"evaluation": 1}, {"tcbEvaluationDataNumber": "1"})],
)
def test_a_set_is_asked_for(evidence, options, asked):
    with serving(answers_of(evidence.collateral)) as (service, url):
        assert fetch_collateral(evidence.quote, Source(url), **options) == evidence.collateral
    assert service.asked[0] == ("tcb", {"fmspc": "53494d534758"} | asked)
    assert service.asked[1] == ("qe/identity", asked)


def test_another_set_than_asked_for_is_refused(lab, evidence):
    def newer(document):
        document["tcbEvaluationDataNumber"] = 2

    mixed = lab.edit_json(evidence, "tcb_info", newer).collateral
    other = lab.edit_json(evidence, "tcb_info", lambda document: document.update(fmspc="000000000000")).collateral
    for collateral, options in ((evidence.collateral, {"evaluation": 7}), (mixed, {}), (other, {})):
        with serving(answers_of(collateral)) as (_, url), raises("collateral-of-another-set", MalformedError, "why"):
            fetch_collateral(evidence.quote, Source(url), **options)


HOSTILE = {
    "a gigabyte": ("tcb", endless, 1),
    "a gzip bomb": ("qe/identity", bomb, 1),
    "a redirect": ("tcb", (302, {"Location": "https://elsewhere.test/tcb"}, b""), 1),
    "a redirect to no URL": ("tcb", (302, {"Location": "http://[::1"}, b""), 1),
    "a redirect to itself": ("tcb", (307, {"Location": "/tcb"}, b""), 1),
    "not found": ("pckcrl", (404, {}, b""), 1),
    "no key": ("tcb", (401, {}, b""), 1),
    "gone": ("tcb", (410, {}, b""), 1),
    "errors": ("tcb", (503, {}, b""), 2),
    "no chain": ("tcb", (200, {}, b"{}"), 1),
    "a long chain": ("tcb", (200, {"TCB-Info-Issuer-Chain": "x" * 20_000}, b"{}"), 1),
}


@pytest.mark.parametrize(("path", "answer", "times"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_service(evidence, path, answer, times):
    begun = time.monotonic()
    answers, code = answers_of(evidence.collateral) | {path: answer}, "collateral-not-fetched"
    with serving(answers) as (service, url), raises(code, FetchError, "why", "remedy"):
        fetch_collateral(evidence.quote, Source(url))
    assert [name for name, _ in service.asked].count(path) == times
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("body", [b"", b"junk", b"zz", b"00" * 100])
@pytest.mark.parametrize("path", ["tcb", "qe/identity", "pckcrl", "rootcacrl"])
def test_other_content_is_malformed(evidence, path, body):
    answers = answers_of(evidence.collateral)
    answers[path] = (*answers[path][:2], body)
    with serving(answers) as (_, url), pytest.raises(MalformedError):
        fetch_collateral(evidence.quote, Source(url))


def test_a_slow_service_has_one_deadline(evidence):
    begun = time.monotonic()
    with serving(answers_of(evidence.collateral) | {"tcb": dripping}) as (_, url):
        with raises("collateral-not-fetched", FetchError, "why", "remedy"):
            fetch_collateral(evidence.quote, Source(url), seconds=1)
        assert time.monotonic() - begun < 10


def test_an_error_and_then_an_answer(evidence):
    answers = answers_of(evidence.collateral)
    with serving(answers | {"tcb": [(500, {}, b""), answers["tcb"]]}) as (service, url):
        assert fetch_collateral(evidence.quote, Source(url)) == evidence.collateral
    assert len(service.asked) == 5


def test_nobody_answers(evidence):
    with serving({}) as (_, url):
        pass
    with raises("collateral-not-fetched", FetchError, "why", "remedy"):
        fetch_collateral(evidence.quote, Source(url))


def test_the_key_goes_to_the_service_alone(evidence):
    answers = answers_of(evidence.collateral)
    root = {"rootcacrl": answers.pop("rootcacrl")}
    with serving(answers) as (service, url), serving(root) as (other, elsewhere):
        source = Source(url, f"{elsewhere}/sgx/certification/v4/rootcacrl", api_key="secret")
        assert fetch_collateral(evidence.quote, source) == evidence.collateral
    assert "secret" not in repr(source)
    assert {headers["Ocp-Apim-Subscription-Key"] for headers in service.headers} == {"secret"}
    assert "secret" not in str(other.headers)


def test_a_service_with_an_authority_of_its_own(evidence, tmp_path):
    authority, certificate = own_authority(tmp_path)
    with serving(answers_of(evidence.collateral), certificate) as (_, url):
        assert fetch_collateral(evidence.quote, Source(url, ca_file=authority)) == evidence.collateral
        with raises("collateral-not-fetched", FetchError, "why", "remedy") as caught:
            fetch_collateral(evidence.quote, Source(url))
        assert "--ca" in caught.value.remedy
        for wrong in (tmp_path / "none.pem", tmp_path):
            with raises("collateral-not-fetched", FetchError, "why", "remedy"):
                fetch_collateral(evidence.quote, Source(url, ca_file=wrong))


def test_a_damaged_record_of_tls(evidence, tmp_path):
    authority, certificate = own_authority(tmp_path)

    def damage(handler):
        os.write(handler.connection.fileno(), bytes([23, 3, 3, 0, 32]) + bytes(32))

    code = "collateral-not-fetched"
    with serving({"tcb": damage}, certificate) as (_, url), raises(code, FetchError, "why", "remedy"):
        fetch_collateral(evidence.quote, Source(url, ca_file=authority))


@pytest.mark.parametrize("scheme", ["https", "http"])
def test_the_proxy_of_the_environment_is_used_by_tls(evidence, monkeypatch, scheme):
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
        with raises("collateral-not-fetched", FetchError, "remedy"):
            fetch_collateral(evidence.quote, Source(f"{scheme}://localhost:9/", api_key="secret"))
        server.shutdown()
    assert bool(asked) == (scheme == "https")
    assert b"secret" not in b"".join(asked)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "ftp://127.0.0.1:9", "127.0.0.1:1x"])
def test_a_proxy_that_cannot_be_used(evidence, monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy)
    with raises("collateral-not-fetched", FetchError, "why", "remedy"):
        fetch_collateral(evidence.quote, Source("https://pcs.test"))


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


def test_arguments_that_cannot_be_meant(evidence):
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
            fetch_collateral(evidence.quote, source, **options)
    with pytest.raises(MalformedError):
        fetch_collateral(b"junk", INTEL_PCS)
