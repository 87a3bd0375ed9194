"""Verdicts on quotes of TDs: demands, flaws, TDX modules and TCB statuses, each compared with dcap-qvl's."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import pytest

from confcom.sgx.td_report import TdAttribute, TdReport10, TdReport15, TdReport15Ex
from confcom.verify import SgxPolicy, TcbStatus, TdImage, TdxPolicy, verify
from confcom.verify.checks import authenticity
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal, Appraiser
from confcom.verify.verdict import CheckStatus
from testkit.verify.genuine_quotes import TD_QUOTES, genuine
from testkit.verify.tampering import FALSE, REFUSED, UNUSABLE, VERIFIED
from testkit.verify.td_lab import BODIES, MEASURED, POLICY, module_level
from testkit.verify.verify_lab import NOW, check_of, failed_codes

RTMRS = ("rtmr0", "rtmr1", "rtmr2", "rtmr3")
OTHER = b"o" * 48
SEPT_VE_DISABLE = TdAttribute.SEPT_VE_DISABLE
SVNS = bytes([5, 1, 2, *bytes(13)])
"""TEE_TCB_SVN of a TDX module: SVN 5 of version 1."""


def policy_of(evidence, **demands):
    body = evidence.parsed.body
    values = {name: getattr(body, name) for name in ("mr_td", *RTMRS, "report_data", "mr_seam", "mr_owner")}
    return TdxPolicy(**(values | demands))


@pytest.mark.parametrize("name", TD_QUOTES)
def test_genuine_quotes_at_their_time_and_today(name):
    evidence = genuine(name)
    outdated = name == "tdx_quote_outdated"
    policy = policy_of(evidence)
    verdict = evidence.verdict(policy)
    kind, codes = (FALSE, ["tcb-not-listed"]) if outdated else (VERIFIED, [])
    assert (verdict.kind, failed_codes(verdict)) == (kind, codes)
    assert isinstance(evidence.appraisal(), Appraisal) != outdated
    today = replace(evidence, now=NOW + timedelta(days=365)).verdict(policy)
    assert (today.kind, failed_codes(today)) == (UNUSABLE, ["collateral"])
    if outdated:
        assert verdict.claims is None
        return
    assert (verdict.platform, verdict.tcb_status, verdict.marks) == ("genuine", "UpToDate", ())
    body, claims = evidence.parsed.body, verdict.claims
    for field in fields(body):
        value, claimed = getattr(body, field.name), getattr(claims, field.name)
        assert claimed == (value.to_bytes(8, "big") if isinstance(value, int) and field.name != "vmid" else value)
    assert json.loads(json.dumps(verdict.to_json()))["claims"]["mr_td"] == body.mr_td.hex()
    assert (claims.debug, claims.tee_tcb_svn2 is None) == (False, type(body) is TdReport10)


@pytest.mark.parametrize("name", ["tdx_quote", "tdx_quote_td15ex"])
def test_genuine_quotes_are_refused_for_another_identity(name):
    evidence = genuine(name)
    for demand in ("mr_td", *RTMRS, "mr_seam", "mr_owner"):
        verdict = evidence.verdict(policy_of(evidence, **{demand: OTHER}))
        assert (verdict.kind, failed_codes(verdict)) == (REFUSED, [demand.replace("_", "-")])
    for policy, codes in (
        (policy_of(evidence, report_data=bytes(64)), ["report-data"]),
        (SgxPolicy(mr_enclave=bytes(32), report_data=evidence.parsed.body.report_data), ["tee"]),
    ):
        verdict = evidence.verdict(policy)
        assert (verdict.kind, failed_codes(verdict)) == (REFUSED, codes)
        assert (verdict.claims is None) == (codes == ["tee"])
        assert verdict.tcb_status == "UpToDate"


def test_each_policy_is_of_one_tee(lab, tdx_lab, evidence):
    td = tdx_lab.evidence()
    for found, policy in ((td, lab.policy), (evidence, POLICY)):
        verdict = found.verdict(policy)
        assert (verdict.kind, failed_codes(verdict), verdict.claims) == (REFUSED, ["tee"], None)
        assert check_of(verdict, "policy").status is CheckStatus.NOT_CHECKED
    for name in ("tcb_info", "qe_identity"):
        mixed = td.with_collateral(**{name: getattr(evidence.collateral, name)}).verdict(POLICY)
        assert (mixed.kind, failed_codes(mixed)) == (UNUSABLE, ["collateral"])
    for found, policy, other in ((td, POLICY, evidence.collateral), (evidence, lab.policy, td.collateral)):
        for collateral in (other, other.prepared(td.trusted, NOW)):
            verdict = verify(found.quote, policy, collateral, root=td.trusted, now=NOW)
            assert (verdict.kind, failed_codes(verdict)) == (UNUSABLE, ["collateral-platform"])


IMAGE = TdImage(**MEASURED)
ANY_IMAGE = {"mr_td": None, **dict.fromkeys(RTMRS)}
DEMANDS = [
    ({}, []),
    ({"images": [TdImage(mr_td=OTHER), IMAGE]}, []),
    (ANY_IMAGE | {"images": [IMAGE]}, []),
    (ANY_IMAGE | {"images": [TdImage(mr_td=MEASURED["mr_td"], rtmr3=OTHER)]}, ["images"]),
    ({"images": []}, ["images"]),
    (ANY_IMAGE, ["identity"]),
    ({"mr_td": None}, ["identity"]),
    ({"report_data": None}, ["report-data"]),
    ({"allow_simulated": False}, ["platform"]),
    *(({name: OTHER}, [name.replace("_", "-")]) for name in ("mr_td", *RTMRS, "mr_seam", "mr_owner_config")),
    ({"mr_config_id": OTHER, "mr_owner": OTHER}, ["mr-config-id", "mr-owner"]),
    ({"xfam": "00" * 7 + "03"}, ["xfam"]),
    ({"td_attributes": f"{SEPT_VE_DISABLE:016x}", "xfam": bytes(7) + b"\7"}, []),
    ({"td_attributes": SEPT_VE_DISABLE.to_bytes(8, "little")}, ["td-attributes-demanded"]),
    ({"td_attributes": bytes(8)}, ["td-attributes-demanded"]),
    ({"td_attributes": bytes(8), "td_attributes_mask": "ff" * 4 + "0" * 8}, []),
    ({"accepted_tcb_statuses": ()}, ["tcb-status"]),
]


@pytest.mark.parametrize(("demand", "codes"), DEMANDS)
def test_each_demand_has_its_code(tdx_lab, demand, codes):
    verdict = tdx_lab.evidence().verdict(replace(POLICY, **demand))
    assert (verdict.kind, failed_codes(verdict)) == (REFUSED if codes else VERIFIED, codes)


@pytest.mark.parametrize(
    ("demand", "left_open"),
    [
        ({}, ()),
        ({"rtmr3": None}, ("rtmr3",)),
        (dict.fromkeys(RTMRS), RTMRS),
        (dict.fromkeys(RTMRS) | {"images": [IMAGE]}, ()),
        (ANY_IMAGE | {"images": [IMAGE, TdImage(mr_td=MEASURED["mr_td"], rtmr0=MEASURED["rtmr0"])]}, RTMRS[1:]),
    ],
)
def test_registers_that_nothing_demands_are_told(tdx_lab, demand, left_open):
    verdict = tdx_lab.evidence().verdict(replace(POLICY, **demand))
    assert verdict.ok
    told = [check for check in verdict.checks if check.code == "rtmr"]
    assert [check.status for check in told] == [CheckStatus.NOT_CHECKED] * bool(left_open)
    assert all(name in told[0].why for name in left_open)


EXTENDED = ("init_service_td_hash", "cur_service_td_hash", "init_service_td_attributes", "cur_service_td_attributes")
KNOWN_BITS = {*range(18, 23), *(one.bit_length() - 1 for one in TdAttribute)}
ATTRIBUTES = {bit: "reserved" if bit not in KNOWN_BITS else "" for bit in range(64)} | {
    0: "debug",
    4: "profiling",
    5: "profiling",
    6: "profiling",
    17: "SERVTD_EXT",
    28: "without",
    29: "migration",
}
WORDS = {
    "debug": ("Debug mode is enabled", ["debug"]),
    "profiling": ("TD profiling is enabled", ["debug", "td-attributes"]),
    "reserved": ("Reserved bits in TD attributes are set", ["td-attributes"]),
    "SERVTD_EXT": ("SERVTD_EXT is enabled", ["service-td"]),
    "without": ("SEPT_VE_DISABLE is not enabled", ["td-attributes"]),
    "migration": ("TD migration is enabled", ["td-attributes"]),
}


@pytest.mark.parametrize("codec", BODIES.values())
@pytest.mark.parametrize(("bit", "word"), ATTRIBUTES.items())
def test_every_attribute_bit(tdx_lab, codec, bit, word):
    """Each bit is changed alone; dcap-qvl refuses the same bits, after all its other checks."""
    evidence = tdx_lab.evidence(codec=codec, td_attributes=SEPT_VE_DISABLE ^ 1 << bit)
    verdict, theirs = evidence.verdict(POLICY), evidence.appraisal()
    if not word:
        assert verdict.ok
        assert isinstance(theirs, Appraisal)
        return
    text, codes = WORDS[word]
    codes = [*(["debug"] if bit < 8 and word == "reserved" else []), *codes]
    assert theirs == text
    assert (verdict.kind, failed_codes(verdict)) == (REFUSED, codes)
    assert check_of(verdict, "appraisal").status is CheckStatus.NOT_CHECKED
    assert verdict.claims.td_attributes == (SEPT_VE_DISABLE ^ 1 << bit).to_bytes(8, "big")
    assert evidence.verdict(replace(POLICY, allow_debug=True)).ok == (word == "debug")


@pytest.mark.parametrize(
    ("codec", "register", "value", "theirs"),
    [
        *((codec, "mr_service_td", b"s" * 48, "Invalid MR service TD") for codec in (TdReport15, TdReport15Ex)),
        *((TdReport15Ex, name, b"s" * 48, "") for name in EXTENDED[:2]),
        *((TdReport15Ex, name, 1, "") for name in EXTENDED[2:]),
    ],
)
def test_no_service_td_is_accepted(tdx_lab, codec, register, value, theirs):
    """dcap-qvl looks at the extended report's own fields only by the attribute SERVTD_EXT."""
    evidence = tdx_lab.evidence(codec=codec, **{register: value})
    verdict, found = evidence.verdict(POLICY), evidence.appraisal()
    assert (verdict.kind, failed_codes(verdict)) == (REFUSED, ["service-td"])
    assert (found if isinstance(found, str) else "") == theirs


def test_several_flaws_are_all_told(tdx_lab):
    flaws = {"td_attributes": TdAttribute.DEBUG | TdAttribute.MIGRATABLE, "mr_service_td": b"s" * 48}
    verdict = tdx_lab.evidence(**flaws).verdict(replace(POLICY, allow_debug=True))
    assert (verdict.kind, failed_codes(verdict)) == (REFUSED, ["td-attributes", "service-td"])


def identities(*versions, **changes):
    def edit(info):
        levels = {"tcbLevels": [module_level(5), module_level(3, "OutOfDate", "2025-01-01T00:00:00Z")]}
        module = info["tdxModule"] | levels | changes
        info["tdxModuleIdentities"] = [module | {"id": f"tdx_{version:02x}"} for version in versions]
        info["tcbLevels"] = info["tcbLevels"][:1]

    return edit


def base_module(info):
    for level in info["tcbLevels"]:
        level["tcb"]["tdxtcbcomponents"][0]["svn"] = 4


MODULES = {
    "version 1": (SVNS, {}, identities(1), VERIFIED, []),
    "version 10, by hexadecimal": (bytes([5, 16, 2, *bytes(13)]), {}, identities(1, 16), VERIFIED, []),
    "version 2 is not listed": (
        *(bytes([5, 2, 2, *bytes(13)]), {}, identities(1), FALSE, ["tdx-module", "tcb-not-listed"]),
    ),
    "version 0 is the base module": (bytes([5, 0, 2, *bytes(13)]), {}, base_module, VERIFIED, []),
    "version 0 below every level": (bytes([3, 0, 2, *bytes(13)]), {}, base_module, FALSE, ["tcb-not-listed"]),
    "SVN 0 skipped with a version": (SVNS, {}, base_module, VERIFIED, []),
    "SVN 3 is out of date": (bytes([3, 1, 2, *bytes(13)]), {}, identities(1), REFUSED, ["tcb-status"]),
    "SVN 2 below every module level": (bytes([2, 1, 2, *bytes(13)]), {}, identities(1), FALSE, ["tcb-not-listed"]),
    "TDX component 2 too low": (bytes([5, 1, 1, *bytes(13)]), {}, identities(1), FALSE, ["tcb-not-listed"]),
    "another signer": (SVNS, {"mr_signer_seam": OTHER}, identities(1), FALSE, ["tdx-module"]),
    "another signer, as listed": (SVNS, {"mr_signer_seam": OTHER}, identities(1, mrsigner=OTHER.hex()), VERIFIED, []),
    "attributes": (SVNS, {"seam_attributes": 1}, identities(1), FALSE, ["tdx-module"]),
    "attributes, as listed": (
        *(SVNS, {"seam_attributes": 1}, identities(1, attributes="01" + "00" * 7), VERIFIED, []),
    ),
    "a bit outside of the mask": (
        *(SVNS, {"seam_attributes": 1}, identities(1, attributesMask="00" * 8), FALSE, ["tdx-module"]),
    ),
    "module revoked": (*(SVNS, {}, identities(1, tcbLevels=[module_level(5, "Revoked")]), FALSE, ["tcb-revoked"]),),
}


@pytest.mark.parametrize("codec", BODIES.values())
@pytest.mark.parametrize("case", MODULES)
def test_every_case_of_tdx_modules(tdx_lab, codec, case, monkeypatch):
    svns, registers, edit, kind, codes = MODULES[case]
    registers = {"tee_tcb_svn2": svns} | registers if issubclass(codec, TdReport15) else registers
    evidence = tdx_lab.edit_json(tdx_lab.evidence(codec=codec, tee_tcb_svn=svns, **registers), "tcb_info", edit)
    verdict, theirs = evidence.verdict(POLICY), evidence.appraisal()
    assert (verdict.kind, failed_codes(verdict)) == (kind, codes)
    assert isinstance(theirs, Appraisal) == (kind is not FALSE)
    monkeypatch.setattr(Appraiser, "appraise", lambda *_: Appraisal(ANY, ANY))
    assert failed_codes(evidence.verdict(POLICY)) == codes


LATER = bytes([5, 1, 7, *bytes(13)])
"""SVNs of a platform that reaches the first of two levels; `SVNS` reaches the second."""


def two_levels(first, second):
    """Give the collateral two levels that only TDX component 2 tells apart."""

    def edit(info):
        (level,) = info["tcbLevels"][:1]
        tcb = level["tcb"] | {"tdxtcbcomponents": [{"svn": svn} for svn in (2, 0, 7, *bytes(13))]}
        higher = level | {"tcb": tcb, "tcbStatus": first, "tcbDate": "2026-11-01T00:00:00Z"}
        info["tcbLevels"] = [level | {"tcbStatus": second, "tcbDate": "2026-10-25T00:00:00Z"}, higher]

    return edit


STATUSES = [
    (SVNS, SVNS, "UpToDate", "UpToDate", "UpToDate"),
    (SVNS, SVNS, "UpToDate", "SWHardeningNeeded", "SWHardeningNeeded"),
    (SVNS, SVNS, "UpToDate", "ConfigurationNeeded", "ConfigurationNeeded"),
    (SVNS, SVNS, "UpToDate", "ConfigurationAndSWHardeningNeeded", "ConfigurationAndSWHardeningNeeded"),
    (SVNS, SVNS, "UpToDate", "OutOfDate", "OutOfDate"),
    (SVNS, SVNS, "UpToDate", "OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"),
    (SVNS, LATER, "UpToDate", "OutOfDate", "TDRelaunchAdvised"),
    (SVNS, LATER, "SWHardeningNeeded", "OutOfDate", "TDRelaunchAdvised"),
    (SVNS, LATER, "ConfigurationNeeded", "OutOfDate", "TDRelaunchAdvisedConfigurationNeeded"),
    (SVNS, LATER, "ConfigurationAndSWHardeningNeeded", "OutOfDate", "TDRelaunchAdvisedConfigurationNeeded"),
    (SVNS, LATER, "UpToDate", "OutOfDateConfigurationNeeded", "TDRelaunchAdvisedConfigurationNeeded"),
    (SVNS, LATER, "OutOfDate", "OutOfDate", "OutOfDate"),
    (LATER, SVNS, "UpToDate", "OutOfDate", "UpToDate"),
    (SVNS, LATER, "UpToDate", "Revoked", None),
    (LATER, SVNS, "UpToDate", "Revoked", None),
]


@pytest.mark.parametrize("case", STATUSES)
def test_every_status(tdx_lab, case):
    launch, current, first, second, status = case
    evidence = tdx_lab.evidence(tee_tcb_svn=launch, tee_tcb_svn2=current)
    evidence = tdx_lab.edit_json(evidence, "tcb_info", two_levels(first, second))
    verdict, theirs = evidence.verdict(POLICY), evidence.appraisal()
    if status is None:
        assert (verdict.kind, failed_codes(verdict), verdict.tcb_status) == (FALSE, ["tcb-revoked"], "Revoked")
        assert "Revoked" in theirs
        return
    assert theirs.status == verdict.tcb_status == status
    assert failed_codes(verdict) == ([] if status == "UpToDate" else ["tcb-status"])
    assert evidence.verdict(replace(POLICY, accepted_tcb_statuses=[status])).ok
    grace = replace(POLICY, platform_grace_period=NOW - datetime(2026, 10, 25, tzinfo=UTC))
    spared = {"OutOfDateConfigurationNeeded": "ConfigurationNeeded"}.get(second, "UpToDate")
    if status.startswith(("OutOfDate", "TDRelaunch")):
        assert evidence.verdict(replace(grace, accepted_tcb_statuses=[spared])).ok
        too_short = replace(grace, platform_grace_period=grace.platform_grace_period - timedelta(seconds=1))
        assert failed_codes(evidence.verdict(too_short)) == ["tcb-status"]


@pytest.mark.parametrize(
    ("parts", "status", "in_grace"),
    [
        (("UpToDate", "OutOfDate", "UpToDate"), "OutOfDate", "UpToDate"),
        (("SWHardeningNeeded", "OutOfDate", "UpToDate"), "OutOfDate", "SWHardeningNeeded"),
        (("ConfigurationNeeded", "OutOfDate", "UpToDate"), "OutOfDateConfigurationNeeded", "ConfigurationNeeded"),
        (("UpToDate", "UpToDate", "OutOfDate"), "OutOfDate", "OutOfDate"),
        (("ConfigurationNeeded", "UpToDate", "OutOfDate"), *["OutOfDateConfigurationNeeded"] * 2),
        (("UpToDate", "OutOfDate", "OutOfDate"), "OutOfDate", "OutOfDate"),
    ],
)
def test_platform_module_and_enclave_converge(tdx_lab, parts, status, in_grace):
    platform, module, enclave = parts

    def edit_info(info):
        levels = [module_level(2, module, "2026-10-25T00:00:00Z", ["INTEL-SA-00001"])]
        identities(1, tcbLevels=levels)(info)
        info["tcbLevels"][0]["tcbStatus"] = platform

    def edit_qe(identity):
        identity["tcbLevels"][0]["tcbStatus"] = enclave

    evidence = tdx_lab.edit_json(tdx_lab.evidence(), "tcb_info", edit_info)
    evidence = tdx_lab.edit_json(evidence, "qe_identity", edit_qe)
    verdict, theirs = evidence.verdict(POLICY), evidence.appraisal()
    assert (verdict.tcb_status, theirs.status) == (status, status)
    assert verdict.advisory_ids == theirs.advisory_ids
    assert "INTEL-SA-00001" in verdict.advisory_ids
    assert failed_codes(verdict) == ["tcb-status"]
    grace = replace(POLICY, platform_grace_period=NOW - datetime(2026, 10, 25, tzinfo=UTC))
    accepted = {
        one
        for one in TcbStatus
        if one != "Revoked" and evidence.verdict(replace(grace, accepted_tcb_statuses=[one])).ok
    }
    assert accepted == {in_grace}
    too_short = replace(grace, platform_grace_period=grace.platform_grace_period - timedelta(seconds=1))
    assert evidence.verdict(replace(too_short, accepted_tcb_statuses=[in_grace])).ok is (in_grace == status)


def test_tcbs_are_remembered_of_signed_reports_only(tdx_lab, monkeypatch):
    monkeypatch.setattr(authenticity, "MAX_KNOWN_MODULES", 2)
    evidence = tdx_lab.evidence()
    prepared = evidence.collateral.prepared(evidence.trusted, NOW)
    for _ in range(2):
        for svn in (5, 6, 7):
            signed = tdx_lab.quote(tee_tcb_svn=bytes([svn]) + SVNS[1:])
            forged = bytearray(signed)
            forged[60] ^= 0x80
            assert verify(signed, POLICY, prepared, now=NOW).ok
            assert verify(bytes(forged), POLICY, prepared, now=NOW).kind is FALSE
    (known,) = prepared._known.values()
    assert known.judge_known.cache_info().currsize == 2
    assert known.judge_known.cache_info().misses == 6
