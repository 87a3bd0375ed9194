from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.signed_json import MAX_DOCUMENT_SIZE, JsonObject, SignedJson

SIGNATURE = bytes(range(64))
SIGNATURE_HEX = SIGNATURE.hex()


def document(body: bytes, *, name="thing", signature=SIGNATURE_HEX) -> bytes:
    return b'{"' + name.encode() + b'":' + body + b',"signature":"' + signature.encode() + b'"}'


def read(body: bytes) -> JsonObject:
    return SignedJson.parse(document(body), "thing").read()


@given(st.binary(max_size=200), st.binary(min_size=64, max_size=64), st.sampled_from(["tcbInfo", "enclaveIdentity"]))
def test_the_signed_bytes_come_out_as_they_went_in(body, signature, name):
    signed = SignedJson(name, body, signature)
    assert SignedJson.parse(signed.encode(), name) == signed


def test_the_form_is_the_services():
    assert SignedJson("thing", b'{"a": 1 }', SIGNATURE).encode() == document(b'{"a": 1 }')


def test_upper_case_signatures_and_white_space_at_the_end_are_read():
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
    with pytest.raises(MalformedError, match="not a signed thing document") as caught:
        SignedJson.parse(data, "thing")
    assert caught.value.why.startswith('it does not have the form {"thing":{...},"signature":')
    assert "byte for byte" in caught.value.remedy


def test_a_very_long_document_is_not_taken_apart():
    padding = b" " * (MAX_DOCUMENT_SIZE - len(document(b"{}")))
    assert SignedJson.parse(document(b"{" + padding + b"}"), "thing").read().members == {}
    with pytest.raises(MalformedError, match="thing of 1048577 bytes is too long") as caught:
        SignedJson.parse(document(b"{ " + padding + b"}"), "thing")
    assert caught.value.why == "1048576 is most"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"{}{}", "Extra data"),
        (b'{"a":1},"b":{"c":2}', "Extra data"),
        (b'{"a":1,"a":1}', "the same key twice"),
        (b'{"x":{"a":1,"a":1}}', "the same key twice"),
        (b'{"a":NaN}', "NaN is not JSON"),
        (b'{"a":1.5}', "1.5 is not an integer"),
        (b'{"a":1e9}', "1e9 is not an integer"),
        (b'{"a":0.' + b"1" * 30 + b"}", "0." + "1" * 18 + " is not an integer"),
        (b'{"a":"\xff"}', "utf-8"),
        (b'{"a":' + b"1" * 5000 + b"}", "digits"),
        (b'{"a":' + b"[" * 100_000 + b"}", "recursion"),
    ],
)
def test_a_body_that_is_not_plain_json_is_refused(body, why):
    with pytest.raises(MalformedError, match="thing is not JSON") as caught:
        read(body)
    assert why in caught.value.why


@pytest.mark.parametrize("body", [b"[]", b"1", b'"text"', b"null"])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(MalformedError, match="thing is not a JSON object"):
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
    ("method", "key", "arguments", "message"),
    [
        ("text", "number", (), "thing.number is not a string"),
        ("text", "null", (), "thing.null is not a string"),
        ("integer", "odd", (), "thing.odd is not an integer between 0 and 2147483647"),
        ("integer", "bool", (), "thing.bool is not an integer"),
        ("integer", "big", (), "thing.big is not an integer"),
        ("integer", "negative", (), "thing.negative is not an integer"),
        ("integer", "number", (0,), "thing.number is not an integer between 0 and 0"),
        ("hexadecimal", "odd", (1,), "thing.odd is not 2 hex digits"),
        ("hexadecimal", "long", (2,), "thing.long is not 4 hex digits"),
        ("hexadecimal", "long", (4,), "thing.long is not 8 hex digits"),
        ("hexadecimal", "nothex", (1,), "thing.nothex is not 2 hex digits"),
        ("hexadecimal", "number", (1,), "thing.number is not a string"),
        ("date", "day", (), "thing.day is not a date of the form"),
        ("date", "short", (), "thing.short is not a date"),
        ("date", "offset", (), "thing.offset is not a date"),
        ("date", "wide", (), "thing.wide is not a date"),
        ("date", "number", (), "thing.number is not a string"),
        ("child", "number", (), "thing.number is not a JSON object"),
        ("children", "object", (), "thing.object is not an array"),
        ("children", "numbers", (), r"thing.numbers\[0\] is not a JSON object"),
        ("texts", "mixed", (), "thing.mixed is not an array of strings"),
        ("texts", "object", (), "thing.object is not an array"),
    ],
)
def test_a_member_of_another_type_is_refused_by_its_path(method, key, arguments, message):
    with pytest.raises(MalformedError, match=message):
        getattr(BAD, method)(key, *arguments)


@pytest.mark.parametrize("method", ["text", "integer", "date", "child", "children", "texts"])
def test_a_missing_member_is_named(method):
    with pytest.raises(MalformedError, match="thing has no other"):
        getattr(BAD, method)("other")


def test_paths_reach_into_arrays():
    value = read(b'{"a":[{},{"b":{}}]}')
    with pytest.raises(MalformedError, match=r"thing\.a\[1\]\.b has no c"):
        value.children("a")[1].child("b").text("c")


@given(st.binary(max_size=100))
def test_arbitrary_bodies_are_refused_or_objects(body):
    try:
        value = read(body)
    except MalformedError:
        return
    assert isinstance(value.members, dict)
