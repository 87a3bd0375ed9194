import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.errors import MalformedError
from confcom.sgx.report import INTEL_QE_MRSIGNER
from confcom.sgx.tcb_documents import ComponentKind, QeIdentity, TcbInfo, TcbLevel, TcbStatus, TdxModule
from confcom.sgx.tee_type import TeeType
from testkit.expected_errors import raises

SIGNATURE = "ab" * 64
ISSUED, NEXT = (datetime(2026, 10, day, 11, 12, 13, tzinfo=UTC) for day in (1, 31))
TCB_INFO, QE_IDENTITY = json.loads(Path(__file__).with_name("tcb_documents.json").read_text()).values()
GENUINE = json.loads((Path(__file__).parents[1] / "vectors/genuine-quotes/tdx_quote_collateral.json").read_text())
TDX_INFO, TD_QE_IDENTITY = json.loads(GENUINE["tcb_info"]), json.loads(GENUINE["qe_identity"])
DOCUMENTS = {
    "tcbInfo": ("tcbInfo", TcbInfo, TCB_INFO),
    "enclaveIdentity": ("enclaveIdentity", QeIdentity, QE_IDENTITY),
    "TDX": ("tcbInfo", TcbInfo, TDX_INFO),
    "TD_QE": ("enclaveIdentity", QeIdentity, TD_QE_IDENTITY),
}
each_document = pytest.mark.parametrize(("name", "codec", "original"), DOCUMENTS.values(), ids=DOCUMENTS)


def document(name, value):
    body = json.dumps(value, separators=(",", ":"))
    return f'{{"{name}":{body},"signature":"{SIGNATURE}"}}'.encode()


def tcb_info(value=TCB_INFO):
    return TcbInfo.parse(document("tcbInfo", value))


def qe_identity(value=QE_IDENTITY):
    return QeIdentity.parse(document("enclaveIdentity", value))


def changed(original, path, value):
    """A copy of a document with one member replaced, or deleted if the value is an Ellipsis."""
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
    assert (info.issue_date, info.next_update) == (ISSUED, NEXT)
    assert (info.fmspc.hex(), info.pce_id) == ("00906ea10000", b"\x00\x01")
    assert (info.tee, info.tcb_type, info.tcb_evaluation_data_number) == (TeeType.SGX, 0, 17)
    assert info.tdx_modules == {}
    assert info.levels[0].component_kinds == (ComponentKind("BIOS", "Early Microcode Update"),) * 16
    assert info.levels[1].component_kinds == (ComponentKind("", ""),) * 16
    hardened, advisories = datetime(2025, 11, 12, tzinfo=UTC), ("INTEL-SA-00334", "INTEL-SA-00615")
    assert info.levels == (
        TcbLevel((*range(16), 13), hardened, TcbStatus.SW_HARDENING_NEEDED, advisories),
        TcbLevel((0,) * 17, datetime(2018, 1, 4, tzinfo=UTC), TcbStatus.REVOKED, ()),
    )
    assert info.simulation is False
    assert info.signed.encode() == document("tcbInfo", TCB_INFO)
    assert info.signed.signature == b"\xab" * 64


def test_qe_identity_is_read():
    identity = qe_identity()
    assert (identity.tee, identity.issue_date, identity.next_update) == (TeeType.SGX, ISSUED, NEXT)
    assert (identity.tcb_evaluation_data_number, identity.isv_prod_id) == (18, 1)
    assert (identity.misc_select, identity.misc_select_mask) == (b"\x01\0\0\0", b"\xff" * 4)
    assert identity.attributes == b"\x11" + bytes(15)
    assert identity.attributes_mask.hex() == "fbffffffffffffff0000000000000000"
    assert identity.mr_signer == INTEL_QE_MRSIGNER
    assert identity.levels == (
        TcbLevel((8,), datetime(2024, 3, 13, tzinfo=UTC), TcbStatus.UP_TO_DATE, ()),
        TcbLevel((6,), datetime(2021, 11, 10, tzinfo=UTC), TcbStatus.OUT_OF_DATE, ("INTEL-SA-00615",)),
    )
    assert identity.simulation is False
    assert identity.signed.encode() == document("enclaveIdentity", QE_IDENTITY)


def test_tcb_info_of_tdx_is_read():
    info = TcbInfo.parse(document("tcbInfo", TDX_INFO))
    assert (info.tee, info.fmspc.hex(), info.pce_id) == (TeeType.TDX, "b0c06f000000", bytes(2))
    assert (info.issue_date, info.next_update) == (
        datetime(2025, 6, 19, 10, 16, 3, tzinfo=UTC),
        datetime(2025, 7, 19, 10, 16, 3, tzinfo=UTC),
    )
    assert (info.tcb_type, info.tcb_evaluation_data_number, info.simulation) == (0, 17, False)
    sgx, tdx = (2, 2, 2, 2, 3, 1, 0, 5, *[0] * 8), (5, 0, 2, *[0] * 13)
    newest = datetime(2024, 3, 13, tzinfo=UTC)
    advisories = (106, 115, 135, 203, 220, 233, 270, 293, 320, 329, 381, 389, 477, 837)
    assert info.levels == (
        TcbLevel((*sgx, 11, *tdx), newest, TcbStatus.UP_TO_DATE, ()),
        TcbLevel(
            (*sgx, 5, *tdx),
            datetime(2018, 1, 4, tzinfo=UTC),
            TcbStatus.OUT_OF_DATE,
            tuple(f"INTEL-SA-{number:05}" for number in advisories),
        ),
    )
    kinds = {
        0: ("BIOS", "Early Microcode Update"),
        1: ("OS/VMM", "SGX Late Microcode Update"),
        2: ("OS/VMM", "TXT SINIT"),
        **dict.fromkeys((3, 4, 5), ("BIOS", "")),
        7: ("OS/VMM", "SEAMLDR ACM"),
        **dict.fromkeys((16, 17), ("OS/VMM", "TDX Module")),
        18: ("OS/VMM", "TDX Late Microcode Update"),
    }
    expected = tuple(ComponentKind(*kinds.get(index, ("", ""))) for index in range(32))
    assert [level.component_kinds for level in info.levels] == [expected] * 2
    older = TcbLevel((2,), datetime(2023, 8, 9, tzinfo=UTC), TcbStatus.OUT_OF_DATE, ())
    levels = {0: (), 1: (TcbLevel((4,), newest, TcbStatus.UP_TO_DATE, ()), older)}
    levels[3] = (TcbLevel((3,), newest, TcbStatus.UP_TO_DATE, ()),)
    assert info.tdx_modules == {
        version: TdxModule(bytes(48), bytes(8), b"\xff" * 8, levels) for version, levels in levels.items()
    }


def test_qe_identity_of_tdx_is_read():
    identity = QeIdentity.parse(document("enclaveIdentity", TD_QE_IDENTITY))
    assert (identity.tee, identity.isv_prod_id, identity.tcb_evaluation_data_number) == (TeeType.TDX, 2, 17)
    assert identity.mr_signer.hex() == "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"
    assert identity.levels == (TcbLevel((4,), datetime(2024, 3, 13, tzinfo=UTC), TcbStatus.UP_TO_DATE, ()),)


@each_document
def test_the_simulation_object_is_shown_other_extras_ignored(name, codec, original):
    marked = original | {"simulation": {"genuine": False, "by": "confcom"}, "other": [1]}
    assert codec.parse(document(name, marked)).simulation is True


@each_document
def test_every_member_is_required_and_has_its_type(name, codec, original):
    level = original["tcbLevels"][0]
    paths = [(key,) for key in original if key != "tdxModuleIdentities"]
    paths += [("tdxModule", key) for key in original.get("tdxModule", ())]
    paths += [("tdxModuleIdentities", 1, key) for key in original.get("tdxModuleIdentities", [()] * 2)[1]]
    paths += [("tcbLevels", 0, key) for key in ("tcb", "tcbDate", "tcbStatus")]
    paths += [("tcbLevels", 0, "tcb", key) for key in level["tcb"]]
    for path in paths:
        parent = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[:-1])
        with raises("wrong-member", MalformedError, naming=f"{name}{parent} ") as caught:
            codec.parse(document(name, changed(original, path, ...)))
        assert path[-1] in caught.value.what.split()
    for key in original:
        with raises("wrong-member", MalformedError, naming=f"{name}.{key} "):
            codec.parse(document(name, changed(original, (key,), None)))


def test_each_document_is_refused_in_the_others_place():
    for codec, name in ((QeIdentity, "tcbInfo"), (TcbInfo, "enclaveIdentity")):
        with raises("not-signed-json", MalformedError):
            codec.parse(document(name, DOCUMENTS[name][2]))


@pytest.mark.parametrize(
    ("name", "member", "value"),
    [
        ("tcbInfo", "id", "TD_QE"),
        ("tcbInfo", "id", "tdx"),
        ("enclaveIdentity", "id", "QVE"),
        ("enclaveIdentity", "id", "TDX"),
        ("tcbInfo", "version", 2),
        ("tcbInfo", "version", 4),
        ("enclaveIdentity", "version", 1),
        ("enclaveIdentity", "version", 3),
    ],
)
def test_other_documents_are_named(name, member, value):
    name, codec, original = DOCUMENTS[name]
    with raises("unsupported-document", MalformedError, "remedy", naming=name) as caught:
        codec.parse(document(name, changed(original, (member,), value)))
    assert str(value) in caught.value.what
    assert str(original[member]) in caught.value.why


COMPONENTS, TDX_COMPONENTS = (("tcbLevels", 1, "tcb", f"{tee}tcbcomponents") for tee in ("sgx", "tdx"))
MODULES = "tdxModuleIdentities"
NO_IDS = ("TDX_00", "TDX_1", "TDX_011", "TDX_0G", "TDX_01\n", "\u0664", "QE")


@pytest.mark.parametrize(
    ("name", "path", "value", "named"),
    [
        ("tcbInfo", ("tcbLevels", 0, "tcb", "sgxtcbcomponents", 3, "svn"), 256, ""),
        ("tcbInfo", ("tcbLevels", 0, "tcb", "pcesvn"), 65536, ""),
        ("tcbInfo", ("fmspc",), "00906EA1000", ""),
        ("tcbInfo", ("pceId",), "00", ""),
        ("tcbInfo", ("tcbLevels", 0, "tcbStatus"), "UPTODATE", ""),
        ("tcbInfo", ("tcbLevels", 0, "tcbDate"), "2025-11-12", ""),
        ("tcbInfo", ("tcbLevels", 0, "advisoryIDs"), "INTEL-SA-00334", ""),
        ("tcbInfo", ("tcbLevels",), {}, ""),
        ("tcbInfo", ("tcbLevels", 0, "advisoryIDs"), ["INTEL-SA-00334", 1], ""),
        ("tcbInfo", ("fmspc",), "zz906EA10000", ""),
        *(("tcbInfo", ("tcbType",), value, "") for value in (1 << 31, -1, True, "0")),
        ("tcbInfo", ("issueDate",), "2026-02-30T00:00:00Z", ""),
        ("tcbInfo", ("issueDate",), "2026-1-1T0:0:0Z", ""),
        ("tcbInfo", ("nextUpdate",), "2026-11-24T01:02:03+00:00", ""),
        ("tcbInfo", ("nextUpdate",), "\u0662\u0660\u0662\u0666-11-24T01:02:03Z", ""),
        ("enclaveIdentity", ("miscselect",), "0000000", ""),
        ("enclaveIdentity", ("miscselectMask",), "FFFFFFFFFF", ""),
        ("enclaveIdentity", ("attributes",), "11", ""),
        ("enclaveIdentity", ("mrsigner",), "8C4F", ""),
        ("enclaveIdentity", ("isvprodid",), 65536, ""),
        ("enclaveIdentity", ("tcbLevels", 0, "tcb", "isvsvn"), 65536, ""),
        ("enclaveIdentity", ("tcbLevels", 1, "tcbStatus"), "SWHardeningNeeded", ""),
        ("enclaveIdentity", ("tcbLevels", 0, "tcbStatus"), "ConfigurationNeeded", ""),
        *(("tcbInfo", COMPONENTS, [{"svn": 1}] * count, "tcbLevels[1].tcb") for count in (0, 15, 17)),
        ("tcbInfo", ("tcbLevels", 1), [1], "tcbLevels[1] "),
        ("tcbInfo", ("tcbLevels", 1, "tcb"), [1], "tcbLevels[1].tcb "),
        *(("TDX", (MODULES, 0, "id"), value, f"{MODULES}[0].id ") for value in NO_IDS),
        *(("TDX", (MODULES, 1, "id"), value, f"{MODULES}[1].id ") for value in (*NO_IDS, "TDX_03", "tdx_03", 1)),
        ("TDX", (MODULES,), {}, f"{MODULES} "),
        ("TDX", (MODULES, 0, "mrsigner"), "00" * 32, ".mrsigner "),
        ("TDX", (MODULES, 0, "attributes"), "00" * 16, ".attributes "),
        ("TDX", (MODULES, 0, "tcbLevels", 0, "tcb", "isvsvn"), 256, ".isvsvn "),
        ("TDX", ("tdxModule", "mrsigner"), "00" * 32, "tdxModule.mrsigner "),
        ("TDX", ("tdxModule", "attributesMask"), "", "tdxModule.attributesMask "),
        *(("TDX", TDX_COMPONENTS, [{"svn": 1}] * count, "[1].tcb.tdxtcbcomponents ") for count in (0, 15, 17)),
        ("TDX", (*TDX_COMPONENTS, 4, "svn"), 256, "[4].svn "),
        ("TDX", (*TDX_COMPONENTS, 0, "category"), 1, ".category "),
        ("TDX", (*TDX_COMPONENTS, 0, "type"), ["TDX Module"], ".type "),
        ("TDX", ("tcbLevels", 0, "tcb", "sgxtcbcomponents", 0, "category"), None, ".category "),
    ],
)
def test_a_member_of_another_form_is_refused(name, path, value, named):
    name, codec, original = DOCUMENTS[name]
    code = "unknown-tcb-status" if path[-1] == "tcbStatus" else "wrong-member"
    with raises(code, MalformedError, naming=named or f".{path[-1]} "):
        codec.parse(document(name, changed(original, path, value)))


def test_an_id_of_another_tee_asks_for_that_tees_members():
    assert qe_identity(QE_IDENTITY | {"id": "TD_QE"}).tee is TeeType.TDX
    with raises("wrong-member", MalformedError, naming="tdxtcbcomponents"):
        tcb_info(TCB_INFO | {"id": "TDX"})


@pytest.mark.parametrize("status", ["TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"])
def test_only_quotes_have_the_status_of_a_relaunch(status):
    for path in (("tcbLevels", 0, "tcbStatus"), (MODULES, 0, "tcbLevels", 0, "tcbStatus")):
        with raises("unknown-tcb-status", MalformedError, naming=status):
            tcb_info(changed(TDX_INFO, path, status))
    for path, value in (((MODULES, 0, "tcbLevels", 0, "tcbStatus"), "SWHardeningNeeded"), (("tcbLevels", 0), None)):
        with pytest.raises(MalformedError):
            tcb_info(changed(TDX_INFO, path, value))


def test_tcb_info_of_tdx_may_have_no_identities_of_modules():
    assert [*tcb_info(changed(TDX_INFO, (MODULES,), ...)).tdx_modules] == [0]
    assert [*tcb_info(changed(TDX_INFO, (MODULES, 0, "id"), "tdx_ff")).tdx_modules] == [0, 255, 1]


def test_the_largest_values_are_read():
    info = changed(TCB_INFO, ("tcbLevels", 0, "tcb", "sgxtcbcomponents", 3, "svn"), 255)
    assert tcb_info(changed(info, ("tcbLevels", 0, "tcb", "pcesvn"), 65535)).levels[0].svns[-1] == 65535
    identity = changed(QE_IDENTITY, ("isvprodid",), 65535)
    assert qe_identity(changed(identity, ("tcbLevels", 0, "tcb", "isvsvn"), 65535)).levels[0].svns == (65535,)


def test_a_status_without_end_is_cut_in_the_message():
    with raises("unknown-tcb-status", MalformedError, "why", "remedy", naming=f" '{'x' * 40}'"):
        tcb_info(changed(TCB_INFO, ("tcbLevels", 0, "tcbStatus"), "x" * 1000))


def test_statuses_are_intels():
    assert [status.value for status in TcbStatus] == [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
        "Revoked",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=5,
)


@each_document
@settings(max_examples=50)
@given(st.data())
def test_any_json_in_any_place_is_refused_or_read(name, codec, original, data):
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
