import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.signed_json import MAX_DOCUMENT_SIZE, SignedJson
from testkit.expected_errors import raises

SIGNATURE = bytes(range(64))
SIGNATURE_HEX = SIGNATURE.hex()


def document(body, *, name="thing", signature=SIGNATURE_HEX):
    return b'{"' + name.encode() + b'":' + body + b',"signature":"' + signature.encode() + b'"}'


def read(body):
    return SignedJson.parse(document(body), "thing").read()


@given(st.binary(max_size=200), st.binary(min_size=64, max_size=64), st.sampled_from(["tcbInfo", "enclaveIdentity"]))
def test_the_signed_bytes_come_out_as_they_went_in(body, signature, name):
    signed = SignedJson(name, body, signature)
    assert SignedJson.parse(signed.encode(), name) == signed


def test_the_form_is_the_services():
    assert SignedJson("thing", b'{"a": 1 }', SIGNATURE).encode() == document(b'{"a": 1 }')
    for end in (b"", b"\n", b" \r\n"):
        signed = SignedJson.parse(document(b"{}", signature=SIGNATURE_HEX.upper()) + end, "thing")
        assert signed == SignedJson("thing", b"{}", SIGNATURE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        document(b"{}", name="other"),
        document(b"{}", signature=SIGNATURE_HEX[:-1]),
        document(b"{}", signature="g" + SIGNATURE_HEX[1:]),
        b" " + document(b"{}"),
        document(b"{}")[:-1],
        document(b"{}") + b"x",
        document(b"{}").replace(b',"signature"', b', "signature"'),
        document(b"{}").replace(b":{}", b": {}").replace(b'"thing":', b'"thing" :'),
    ],
)
def test_other_forms_are_refused(data):
    with raises("not-signed-json", MalformedError, "remedy") as caught:
        SignedJson.parse(data, "thing")
    assert '{"thing":{...},"signature":' in caught.value.why


def test_a_very_long_document_is_not_taken_apart():
    padding = b" " * (MAX_DOCUMENT_SIZE - len(document(b"{}")))
    assert SignedJson.parse(document(b"{" + padding + b"}"), "thing").read().members == {}
    with raises("not-signed-json", MalformedError, "why"):
        SignedJson.parse(document(b"{ " + padding + b"}"), "thing")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"{}{}", b'{"a":1},"b":{"c":2}'),
        *(b'{"a":1,"a":1}', b'{"x":{"a":1,"a":1}}'),
        *(b'{"a":NaN}', b'{"a":1.5}', b'{"a":1e9}', b'{"a":0.' + b"1" * 300 + b"}", b'{"a":' + b"1" * 5000 + b"}"),
        *(b'{"a":"\xff"}', b'{"a":' + b"[" * 100_000 + b"}"),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_not_plain_json_is_refused(body):
    with raises("wrong-member", MalformedError) as caught:
        read(body)
    assert caught.value.why == str(caught.value.__cause__)
    assert len(caught.value.why) < 200


def test_a_body_that_is_no_object_is_refused():
    for body in (b"[]", b"1", b'"text"', b"null"):
        with raises("wrong-member", MalformedError):
            read(body)
