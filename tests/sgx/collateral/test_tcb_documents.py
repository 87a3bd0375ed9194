import copy
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.collateral.tcb_documents import QeIdentity, QeTcbLevel, TcbInfo, TcbLevel, TcbStatus
from testkit.raised import raises

SIGNATURE = "ab" * 64
COMPONENTS = [{"svn": n, "category": "BIOS", "type": "Early Microcode Update"} for n in range(16)]
TCB_INFO = {
    "id": "SGX",
    "version": 3,
    "issueDate": "2026-10-01T11:12:13Z",
    "nextUpdate": "2026-10-31T11:12:13Z",
    "fmspc": "00906EA10000",
    "pceId": "0001",
    "tcbType": 0,
    "tcbEvaluationDataNumber": 17,
    "tcbLevels": [
        {
            "tcb": {"sgxtcbcomponents": COMPONENTS, "pcesvn": 13},
            "tcbDate": "2025-11-12T00:00:00Z",
            "tcbStatus": "SWHardeningNeeded",
            "advisoryIDs": ["INTEL-SA-00334", "INTEL-SA-00615"],
        },
        {
            "tcb": {"sgxtcbcomponents": [{"svn": 0}] * 16, "pcesvn": 0},
            "tcbDate": "2018-01-04T00:00:00Z",
            "tcbStatus": "Revoked",
        },
    ],
}
QE_IDENTITY = {
    "id": "QE",
    "version": 2,
    "issueDate": "2026-10-01T11:12:13Z",
    "nextUpdate": "2026-10-31T11:12:13Z",
    "tcbEvaluationDataNumber": 18,
    "miscselect": "01000000",
    "miscselectMask": "FFFFFFFF",
    "attributes": "11000000000000000000000000000000",
    "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
    "mrsigner": "8C4F5775D796503E96137F77C68A829A0056AC8DED70140B081B094490C57BFF",
    "isvprodid": 1,
    "tcbLevels": [
        {"tcb": {"isvsvn": 8}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"},
        {
            "tcb": {"isvsvn": 6},
            "tcbDate": "2021-11-10T00:00:00Z",
            "tcbStatus": "OutOfDate",
            "advisoryIDs": ["INTEL-SA-00615"],
        },
    ],
}
KINDS = {"tcbInfo": (TcbInfo, TCB_INFO), "enclaveIdentity": (QeIdentity, QE_IDENTITY)}


def document(name: str, value: object) -> bytes:
    body = json.dumps(value, separators=(",", ":"))
    return f'{{"{name}":{body},"signature":"{SIGNATURE}"}}'.encode()


def tcb_info(value=TCB_INFO):
    return TcbInfo.parse(document("tcbInfo", value))


def qe_identity(value=QE_IDENTITY):
    return QeIdentity.parse(document("enclaveIdentity", value))


def changed(original, path, value):
    """A copy with one member exchanged; ... deletes it."""
    result = copy.deepcopy(original)
    *parents, last = path
    place = result
    for step in parents:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return result


def test_tcb_info_is_read():
    info = tcb_info()
    assert info.issue_date == datetime(2026, 10, 1, 11, 12, 13, tzinfo=UTC)
    assert info.next_update == datetime(2026, 10, 31, 11, 12, 13, tzinfo=UTC)
    assert info.fmspc == bytes.fromhex("00906ea10000")
    assert info.pce_id == b"\x00\x01"
    assert info.tcb_type == 0
    assert info.tcb_evaluation_data_number == 17
    assert info.levels == (
        TcbLevel(
            components=tuple(range(16)),
            pce_svn=13,
            date=datetime(2025, 11, 12, tzinfo=UTC),
            status=TcbStatus.SW_HARDENING_NEEDED,
            advisory_ids=("INTEL-SA-00334", "INTEL-SA-00615"),
        ),
        TcbLevel((0,) * 16, 0, datetime(2018, 1, 4, tzinfo=UTC), TcbStatus.REVOKED, ()),
    )
    assert info.simulation is None
    assert info.signed.encode() == document("tcbInfo", TCB_INFO)
    assert info.signed.signature == b"\xab" * 64


def test_qe_identity_is_read():
    identity = qe_identity()
    assert identity.issue_date == datetime(2026, 10, 1, 11, 12, 13, tzinfo=UTC)
    assert identity.next_update == datetime(2026, 10, 31, 11, 12, 13, tzinfo=UTC)
    assert identity.tcb_evaluation_data_number == 18
    assert identity.misc_select == b"\x01\0\0\0"
    assert identity.misc_select_mask == b"\xff" * 4
    assert identity.attributes == b"\x11" + bytes(15)
    assert identity.attributes_mask.hex() == "fbffffffffffffff0000000000000000"
    assert identity.mr_signer.hex().startswith("8c4f5775")
    assert identity.isv_prod_id == 1
    assert identity.levels == (
        QeTcbLevel(8, datetime(2024, 3, 13, tzinfo=UTC), TcbStatus.UP_TO_DATE, ()),
        QeTcbLevel(6, datetime(2021, 11, 10, tzinfo=UTC), TcbStatus.OUT_OF_DATE, ("INTEL-SA-00615",)),
    )
    assert identity.simulation is None
    assert identity.signed.encode() == document("enclaveIdentity", QE_IDENTITY)


@pytest.mark.parametrize("name", KINDS)
def test_the_simulation_object_is_shown_and_other_extras_are_ignored(name):
    codec, original = KINDS[name]
    marked = original | {"simulation": {"genuine": False, "by": "confcom"}, "other": [1]}
    assert codec.parse(document(name, marked)).simulation == {"genuine": False, "by": "confcom"}
    with raises("not-a-json-object", MalformedError) as caught:
        codec.parse(document(name, original | {"simulation": "yes"}))
    assert f"{name}.simulation" in caught.value.what


@pytest.mark.parametrize("name", KINDS)
def test_every_member_is_required(name):
    codec, original = KINDS[name]
    level = original["tcbLevels"][0]
    paths = [(key,) for key in original]
    paths += [("tcbLevels", 0, key) for key in ("tcb", "tcbDate", "tcbStatus")]
    paths += [("tcbLevels", 0, "tcb", key) for key in level["tcb"]]
    for path in paths:
        with raises("member-missing", MalformedError) as caught:
            codec.parse(document(name, changed(original, path, ...)))
        parent = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[:-1])
        assert f"{name}{parent} " in caught.value.what
        assert path[-1] in caught.value.what.split()


@pytest.mark.parametrize("name", KINDS)
def test_every_member_has_its_type(name):
    codec, original = KINDS[name]
    for key in original:
        with raises("wrong-member", MalformedError) as caught:
            codec.parse(document(name, changed(original, (key,), None)))
        assert f"{name}.{key} " in caught.value.what


@pytest.mark.parametrize("name", KINDS)
def test_each_document_is_refused_in_the_others_place(name):
    other = next(kind for kind in KINDS if kind != name)
    codec, _ = KINDS[other]
    with raises("not-signed-json", MalformedError):
        codec.parse(document(name, KINDS[name][1]))


@pytest.mark.parametrize(
    ("name", "member", "value", "code"),
    [
        ("tcbInfo", "id", "TDX", "document-for-tdx"),
        ("enclaveIdentity", "id", "TD_QE", "document-for-tdx"),
        ("tcbInfo", "version", 2, "unsupported-document-version"),
        ("tcbInfo", "version", 4, "unsupported-document-version"),
        ("enclaveIdentity", "version", 1, "unsupported-document-version"),
        ("enclaveIdentity", "version", 3, "unsupported-document-version"),
    ],
)
def test_other_documents_are_named(name, member, value, code):
    codec, original = KINDS[name]
    with raises(code, MalformedError, "remedy") as caught:
        codec.parse(document(name, changed(original, (member,), value)))
    assert name in caught.value.what
    assert str(value) in caught.value.what
    assert member == "id" or f"version {original['version']}" in caught.value.remedy


@pytest.mark.parametrize("count", [0, 15, 17])
def test_a_level_has_sixteen_components(count):
    components = [{"svn": 1}] * count
    with raises("wrong-component-count", MalformedError) as caught:
        tcb_info(changed(TCB_INFO, ("tcbLevels", 1, "tcb", "sgxtcbcomponents"), components))
    assert "tcbLevels[1].tcb" in caught.value.what


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("tcbInfo", ("tcbLevels", 0, "tcb", "sgxtcbcomponents", 3, "svn"), 256),
        ("tcbInfo", ("tcbLevels", 0, "tcb", "pcesvn"), 65536),
        ("tcbInfo", ("fmspc",), "00906EA1000"),
        ("tcbInfo", ("fmspc",), "00906EA1000000"),
        ("tcbInfo", ("pceId",), "00"),
        ("tcbInfo", ("tcbLevels", 0, "tcbStatus"), "UPTODATE"),
        ("tcbInfo", ("tcbLevels", 0, "tcbDate"), "2025-11-12"),
        ("tcbInfo", ("tcbLevels", 0, "advisoryIDs"), "INTEL-SA-00334"),
        ("tcbInfo", ("tcbLevels",), {}),
        ("enclaveIdentity", ("miscselect",), "0000000"),
        ("enclaveIdentity", ("miscselectMask",), "FFFFFFFFFF"),
        ("enclaveIdentity", ("attributes",), "11"),
        ("enclaveIdentity", ("attributesMask",), "FBFFFFFFFFFFFFFF00000000000000"),
        ("enclaveIdentity", ("mrsigner",), "8C4F"),
        ("enclaveIdentity", ("isvprodid",), 65536),
        ("enclaveIdentity", ("tcbLevels", 0, "tcb", "isvsvn"), 65536),
        ("enclaveIdentity", ("tcbLevels", 1, "tcbStatus"), "Unknown"),
        ("enclaveIdentity", ("tcbLevels", 1, "tcbStatus"), "SWHardeningNeeded"),
        ("enclaveIdentity", ("tcbLevels", 0, "tcbStatus"), "ConfigurationNeeded"),
    ],
)
def test_a_value_out_of_range_is_refused(name, path, value):
    codec, original = KINDS[name]
    with raises("unknown-tcb-status" if path[-1] == "tcbStatus" else "wrong-member", MalformedError) as caught:
        codec.parse(document(name, changed(original, path, value)))
    assert f".{path[-1]} " in caught.value.what


def test_the_largest_values_are_read():
    info = changed(TCB_INFO, ("tcbLevels", 0, "tcb", "sgxtcbcomponents", 3, "svn"), 255)
    assert tcb_info(changed(info, ("tcbLevels", 0, "tcb", "pcesvn"), 65535)).levels[0].pce_svn == 65535
    identity = changed(QE_IDENTITY, ("isvprodid",), 65535)
    assert qe_identity(changed(identity, ("tcbLevels", 0, "tcb", "isvsvn"), 65535)).levels[0].isv_svn == 65535


def test_a_status_without_end_is_cut_in_the_message():
    with raises("unknown-tcb-status", MalformedError, "why", "remedy") as caught:
        tcb_info(changed(TCB_INFO, ("tcbLevels", 0, "tcbStatus"), "x" * 1000))
    assert f" '{'x' * 40}'" in caught.value.what


def test_statuses_are_intels():
    assert [status.value for status in TcbStatus] == [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", KINDS)
@given(st.data())
def test_any_json_in_any_place_is_refused_or_read(name, data):
    codec, original = KINDS[name]
    place, path = original, []
    while isinstance(place, dict | list) and place and (not path or data.draw(st.booleans())):
        path.append(data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place)))))
        place = place[path[-1]]
    raw = document(name, changed(original, path, data.draw(JSON)))
    try:
        parsed = codec.parse(raw)
    except MalformedError:
        return
    assert parsed.signed.encode() == raw
