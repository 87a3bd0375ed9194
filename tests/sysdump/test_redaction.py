import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.sysdump.redaction import Redaction

SECRET = "hunter2Xq7"
QE_ID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
TEXTS = {
    "URL": f"proxy http://{SECRET}:pw@proxy:3128 failed",
    "URL password": f"https://me:{SECRET}@proxy",
    "password with an at sign": f"https://me:p@{SECRET}@proxy",
    "URL in JSON with escaped slashes": rf'{{"url": "http:\/\/me:{SECRET}@proxy"}}',
    "bearer": f"Authorization: Bearer {SECRET}",
    "basic": f"proxy-authorization: Basic {SECRET}",
    "key and value": f"api_key={SECRET}&x=1",
    "header": f"Ocp-Apim-Subscription-Key: {SECRET}",
    "quoted": f'"password": "two words {SECRET}"',
    "option": f"--token={SECRET} --x",
    "JSON web token": f"eyJhbGciOiJI.{SECRET}.c2lnbmF0dXJl",
    "private key": f"-----BEGIN EC PRIVATE KEY-----\n{SECRET}\n-----END EC PRIVATE KEY-----",
    "private key that is cut off": f"-----BEGIN PRIVATE KEY-----\nMIIB\n{SECRET}",
    "record of helm": "H4sI" * 60 + SECRET,
}
OBJECTS = {
    "variable": {"env": [{"name": "X", "value": SECRET}]},
    "proxy variable that is no URL": {"env": [{"name": "https_proxy", "value": f"me:{SECRET}@proxy:1"}]},
    "proxy value": {"quoteHelper": {"collateral": {"proxy": {"https": f"{SECRET}@proxy"}}}},
    "custom value": {"collateral": {"custom": {"pccs_url": f"https://a?k={SECRET}", "user_token": SECRET}}},
    "custom headers": {"custom": {"custom_request_options": {"get_cert": {"headers": {"x": SECRET}}}}},
    "ConfigMap": {"kind": "ConfigMap", "data": {"qcnl.conf": json.dumps({"x": SECRET}), "other": SECRET}},
    "Secret": {"kind": "Secret", "data": {"seed": SECRET}, "stringData": {"a": SECRET}},
    "last applied": {"metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET}}},
    "member": {"values": {"registryPassword": SECRET, "apiKey": SECRET, "token": SECRET}},
    "text": {"status": {"message": f"cannot reach https://me:{SECRET}@proxy"}},
}


@pytest.mark.parametrize("name", TEXTS)
def test_secrets_in_texts_are_hidden(name):
    assert SECRET not in Redaction().text(TEXTS[name])


@pytest.mark.parametrize("name", OBJECTS)
def test_secrets_in_objects_are_hidden(name):
    shown = Redaction().json(OBJECTS[name])
    assert SECRET not in shown
    assert SECRET not in Redaction().json([{"deeper": OBJECTS[name]}])


def test_a_password_of_a_url_is_hidden_wherever_it_occurs():
    values = {"proxy": {"https": f"http://me:{SECRET}%21@proxy"}}
    known = Redaction.of([values])
    assert (
        known.text(f"CONNECT with {SECRET}! and {SECRET}%21 failed") == "CONNECT with (redacted) and (redacted) failed"
    )
    assert Redaction.of([{"url": "http://me:a@proxy"}]).text("a cat") == "a cat"


@pytest.mark.parametrize(
    "line",
    [
        f"GET /pckcert?qeid={QE_ID}&pceid=0000",
        f'{{"qe_id": "{QE_ID.upper()}"}}',
        f"QE ID: {QE_ID}",
        f"platformId={QE_ID[:20]}",
        f"encrypted_ppid={'ab' * 384}",
    ],
)
def test_identifiers_of_machines_are_hidden(line):
    assert not {QE_ID, QE_ID.upper(), QE_ID[:20], "ab" * 20} & set(_pieces(Redaction().text(line)))


def _pieces(text):
    return [text[at : at + size] for size in (20, 32, 40) for at in range(len(text) - size + 1)]


@pytest.mark.parametrize(
    "harmless",
    [
        f"sha256:{'0f' * 32}",
        "MRENCLAVE " + "ab" * 32,
        "docker-pullable://registry:5000/confcom/quote-helper@sha256:" + "7" * 64,
        "uid 123e4567-e89b-12d3-a456-426614174000",
        'secretName: "confcom-simulated-root"',
        "confcom_quote_helper_quotes_total 12.0",
        "https://pccs.example.com:8081/sgx/certification/v4/",
    ],
)
def test_harmless_texts_stay_as_they_are(harmless):
    assert Redaction().text(harmless) == harmless


def test_harmless_members_of_objects_stay_as_they_are():
    pod = {
        "spec": {
            "automountServiceAccountToken": False,
            "imagePullSecrets": [{"name": "login"}],
            "volumes": [{"name": "simulated-root", "secret": {"secretName": "root"}}],
            "env": [{"name": "HOME", "value": "/x"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}],
        },
    }
    assert json.loads(Redaction().json(pod)) == pod


def test_of_a_proxy_and_of_a_configuration_the_rest_is_shown():
    shown = Redaction().json(
        {
            "proxy": {"https": f"http://me:{SECRET}@proxy.test:3128"},
            "data": {"qcnl.conf": '{"pccs_url": "https://p.test/"}'},
        }
    )
    assert "proxy.test:3128" in shown
    assert "https://p.test/" in shown


def test_the_platform_page_keeps_its_numbers():
    assert Redaction().text(QE_ID, identifiers=True) == QE_ID


@given(st.text(), st.text(alphabet=string.ascii_letters + string.digits, min_size=12), st.text())
def test_a_login_is_hidden_in_any_text(before, password, after):
    url = f"https://user:{password}@proxy"
    shown = Redaction.of([url]).text(f"{before} {url} {password} {after}")
    assert password not in shown


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda one: st.lists(one) | st.dictionaries(st.text(), one),
    )
)
def test_any_document_can_be_shown(thing):
    json.loads(Redaction.of([thing]).json(thing))
