from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.collateral.signed_json import MAX_DOCUMENT_SIZE, SignedJson
from testkit.raised import raises

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
        b"{}",
        document(b"{}", name="other"),
        document(b"{}", signature=SIGNATURE_HEX[:-1]),
        document(b"{}", signature=SIGNATURE_HEX + "0"),
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
    ("body", "beginning"),
    [
        *((body, "") for body in (b"", b"{", b"{}{}")),
        (b'{"a":1},"b":{"c":2}', ""),
        (b'{"a":1,"a":1}', "an object "),
        (b'{"x":{"a":1,"a":1}}', "an object "),
        (b'{"a":NaN}', "NaN "),
        (b'{"a":1.5}', "1.5 "),
        (b'{"a":1e9}', "1e9 "),
        (b'{"a":0.' + b"1" * 30 + b"}", "0." + "1" * 18 + " "),
        (b'{"a":"\xff"}', ""),
        (b'{"a":' + b"1" * 5000 + b"}", ""),
        (b'{"a":' + b"[" * 100_000 + b"}", ""),
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(body, beginning):
    with raises("wrong-member", MalformedError) as caught:
        read(body)
    assert beginning in caught.value.why
    assert caught.value.why == str(caught.value.__cause__)


def test_a_body_that_is_no_object_is_refused():
    for body in (b"[]", b"1", b'"text"', b"null"):
        with raises("wrong-member", MalformedError):
            read(body)


def test_members_are_read_by_type():
    value = read(
        b'{"t":"text","i":5,"zero":0,"h":"00fF","d":"2026-11-24T01:02:03Z","o":{"i":1},"a":[{"i":1},{"i":2}],"s":["x","y"]}'
    )
    assert value.text("t") == "text"
    assert value.integer("i") == 5
    assert value.integer("i", 5) == 5
    assert value.integer("zero", 0) == 0
    assert value.hexadecimal("h", 2) == b"\x00\xff"
    assert value.date("d") == datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC)
    assert value.date("d").tzinfo is UTC
    assert value.child("o").integer("i") == 1
    assert [item.integer("i") for item in value.children("a")] == [1, 2]
    assert value.texts("s") == ("x", "y")
    assert value.has("t")
    assert not value.has("u")


BAD = read(
    b'{"number":1,"bool":true,"big":2147483648,"negative":-1,"null":null,"object":{},"mixed":["x",1],"numbers":[1],'
    b'"odd":"abc","long":"aabbcc","nothex":"zz","day":"2026-02-30T00:00:00Z","short":"2026-1-1T0:0:0Z",'
    b'"offset":"2026-11-24T01:02:03+00:00","wide":"\xd9\xa2\xd9\xa0\xd9\xa2\xd9\xa6-11-24T01:02:03Z"}'
)


@pytest.mark.parametrize(
    ("method", "key", "arguments", "expected"),
    [
        ("text", "number", (), "string"),
        ("text", "null", (), "string"),
        ("integer", "odd", (), "2147483647"),
        ("integer", "bool", (), "integer"),
        ("integer", "big", (), "integer"),
        ("integer", "negative", (), "integer"),
        ("integer", "number", (0,), "0 and 0"),
        ("hexadecimal", "odd", (1,), "2"),
        ("hexadecimal", "long", (2,), "4"),
        ("hexadecimal", "long", (4,), "8"),
        ("hexadecimal", "nothex", (1,), "2"),
        ("hexadecimal", "number", (1,), "string"),
        ("date", "day", (), "YYYY-MM-DDTHH:MM:SSZ"),
        ("date", "short", (), "date"),
        ("date", "offset", (), "date"),
        ("date", "wide", (), "date"),
        ("date", "number", (), "string"),
        ("children", "object", (), "array"),
        ("texts", "mixed", (), "array of strings"),
        ("texts", "object", (), "array"),
    ],
)
def test_a_member_of_another_type_is_refused_by_its_path(method, key, arguments, expected):
    with raises("wrong-member", MalformedError, naming=f"thing.{key} ") as caught:
        getattr(BAD, method)(key, *arguments)
    assert expected in caught.value.what


def test_a_member_that_is_no_object_is_refused_by_its_path():
    for method, path in (("child", "mixed"), ("children", "mixed[0]")):
        with raises("wrong-member", MalformedError, naming=f"thing.{path} "):
            getattr(BAD, method)("mixed")


def test_a_missing_member_is_named_by_its_path():
    for method in ("text", "integer", "date", "child", "children", "texts"):
        with raises("wrong-member", MalformedError, naming=" other"):
            getattr(BAD, method)("other")
    with raises("wrong-member", MalformedError, naming="thing.a[1].b "):
        read(b'{"a":[{},{"b":{}}]}').children("a")[1].child("b").text("c")
