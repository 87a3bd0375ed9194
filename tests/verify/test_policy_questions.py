import hashlib
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.errors import SettingsError
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.extension import PckExtension
from confcom.sgx.tcb_documents import QE_STATUSES, TcbStatus
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import CollateralError, Identity, Policy, SgxPolicy, TdImage, TdxPolicy, WrongTypeError, verify
from confcom.verify.argument_types import MAX_CLOCK_LEEWAY
from testkit.expected_errors import raises
from testkit.verify.verify_lab import NOW, SEED, Lab

LAB = Lab()
EVIDENCE = LAB.evidence()
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def rated(platform, enclave, *, platform_date=NOW, enclave_date=NOW):
    """Evidence whose platform and quoting enclave have these statuses, of TCB levels with these dates."""
    evidence = EVIDENCE
    for part, status, date in (("tcb_info", platform, platform_date), ("qe_identity", enclave, enclave_date)):
        values = {"tcbStatus": status.value, "tcbDate": f"{date:%Y-%m-%dT%H:%M:%SZ}"}
        evidence = LAB.edit_json(
            evidence, part, lambda document, values=values: document["tcbLevels"][0].update(values)
        )
    return evidence


def failed(evidence, **demands):
    return [check.code for check in evidence.verdict(replace(LAB.policy, **demands)).failures]


def ids(evidence):
    extension = PckExtension.from_certificate(PckChain.from_quote(evidence.parsed).leaf)
    return extension.ppid, extension.platform_instance_id


def sha256(data):
    return hashlib.sha256(data).hexdigest()


PPID, INSTANCE_ID = IDS = ids(EVIDENCE)


def test_nodes_of_one_root_are_told_apart():
    """Root and collateral are those of the first node."""
    other = LAB.evidence(platform=SimulatedPlatform.create(SEED, NOW, node="worker-2"))
    assert (other.root, other.collateral) == (EVIDENCE.root, EVIDENCE.collateral)
    assert set(ids(other)).isdisjoint(IDS)
    for platforms, refused in (([PPID], [other]), ([ids(other)[1]], [EVIDENCE]), ([PPID, ids(other)[0]], [])):
        for evidence in (EVIDENCE, other):
            assert failed(evidence, platforms=platforms) == (["platform-id"] if evidence in refused else [])


SIGNER = {"mr_signer": LAB.enclave.mr_signer}
OTHER = {"mr_enclave": bytes(32)}
IDENTITIES = [
    ([], False),
    ([{"mr_enclave": LAB.enclave.mr_enclave}], True),
    ([SIGNER], True),
    ([OTHER, SIGNER | {"isv_prod_id": 0, "min_isv_svn": 0}], True),
    ([OTHER | SIGNER], False),
    ([SIGNER | {"isv_prod_id": 1}], False),
    ([SIGNER | {"min_isv_svn": 1}], False),
]
QUESTIONS = [
    ("platform-id", {"platforms": None}, True),
    ("platform-id", {"platforms": []}, False),
    *(
        ("platform-id", {"platforms": [form]}, True)
        for one in IDS
        for form in (one, one.hex(), one.hex().upper(), sha256(one))
    ),
    ("platform-id", {"platforms": [bytes(16), PPID]}, True),
    ("platform-id", {"platforms": [bytes(16), bytes(32)]}, False),
    ("platform-id", {"platforms": [hashlib.sha256(hashlib.sha256(PPID).digest()).digest()]}, False),
    *(
        ("identities", {"identities": [Identity(**one) for one in given], "mr_enclave": mr_enclave}, holds)
        for given, holds in IDENTITIES
        for mr_enclave in (LAB.enclave.mr_enclave, None)
    ),
    *(("tcb-evaluation", {"min_tcb_evaluation_number": lowest}, lowest != 2) for lowest in (None, 0, 1, 2)),
    *(("collateral-age", {"max_collateral_age": age}, True) for age in (None, DAY)),
    *(("collateral-age", {"max_collateral_age": age}, False) for age in (DAY - SECOND, timedelta(0))),
]


@pytest.mark.parametrize(("code", "demand", "holds"), QUESTIONS)
def test_each_question_has_its_code(code, demand, holds):
    assert EVIDENCE.collateral.read().tcb_info.issue_date == NOW - DAY
    assert failed(EVIDENCE, **demand) == ([] if holds else [code])


SIMULATED, OLD, NEW = "SIMULATED-NOT-GENUINE-INTEL", "INTEL-SA-00334", "INTEL-SA-00615"


@pytest.mark.parametrize(
    ("accepted", "rejected", "holds"),
    [
        (None, [], True),
        ([OLD, NEW], [], True),
        ([OLD.lower(), NEW, "INTEL-SA-00001", SIMULATED], [], True),
        ([OLD], [], False),
        ([], [], False),
        ([OLD, NEW], [OLD], False),
        ([OLD, NEW], [SIMULATED], False),
        (None, [NEW], False),
    ],
)
def test_accepted_and_rejected_advisories(accepted, rejected, holds):
    advised = LAB.edit_json(
        rated(TcbStatus.SW_HARDENING_NEEDED, TcbStatus.UP_TO_DATE),
        "tcb_info",
        lambda document: document["tcbLevels"][0].update(advisoryIDs=[SIMULATED, OLD, NEW]),
    )
    demands = {"accepted_advisories": accepted, "rejected_advisories": rejected}
    expected = [] if holds else ["advisories"]
    assert failed(advised, accepted_tcb_statuses=["SWHardeningNeeded"], **demands) == expected
    assert failed(EVIDENCE, accepted_advisories=accepted) == []


FIRST, LAST = EVIDENCE.collateral.read().tcb_info.issue_date, EVIDENCE.collateral.expires - SECOND


@pytest.mark.parametrize(
    ("now", "leeway", "holds"),
    [
        (FIRST, 0, True),
        (FIRST - SECOND, 0, False),
        (FIRST - 60 * SECOND, 60, True),
        (FIRST - 61 * SECOND, 60, False),
        (FIRST - timedelta(microseconds=1), 1, True),
        (LAST + timedelta(microseconds=999_999), 0, True),
        (LAST + SECOND, 0, False),
        (LAST + 60 * SECOND, 60, True),
        (LAST + 61 * SECOND, 60, False),
        (NOW, 300, True),
    ],
)
def test_leeway_for_clocks(now, leeway, holds):
    """At the first instant collateral, PCK chain and root all begin to be valid."""
    evidence, leeway = replace(EVIDENCE, now=now), leeway * SECOND
    prepared = partial(evidence.collateral.prepared, evidence.trusted, now, clock_leeway=leeway)
    assert evidence.verdict(replace(LAB.policy, clock_leeway=leeway)).ok == holds
    if holds:
        assert verify(evidence.quote, replace(LAB.policy, clock_leeway=leeway), prepared(), now=now).ok
    else:
        with raises("collateral", CollateralError, "why", "remedy"):
            prepared()


def test_leeway_needs_an_instant_at_which_all_is_valid():
    """TCB info ended before the QE identity was issued, each within the leeway of the present."""
    dates = {"tcb_info": ("nextUpdate", NOW - 9 * SECOND), "qe_identity": ("issueDate", NOW + 9 * SECOND)}
    evidence = EVIDENCE
    for part, (name, date) in dates.items():
        text = f"{date:%Y-%m-%dT%H:%M:%SZ}"
        evidence = LAB.edit_json(evidence, part, lambda document, name=name, text=text: document.update({name: text}))
    assert failed(evidence, clock_leeway=60 * SECOND) == ["collateral"]


@pytest.mark.parametrize("year", [1, 1969, 9999])
@pytest.mark.parametrize("name", ["issueDate", "nextUpdate"])
def test_no_date_raises_with_leeway(year, name):
    evidence = LAB.edit_json(
        EVIDENCE, "tcb_info", lambda document: document.update({name: f"{year:04}-01-01T00:00:00Z"})
    )
    assert failed(evidence, clock_leeway=MAX_CLOCK_LEEWAY) == failed(evidence)


def test_leeway_does_not_prolong_ages():
    """The age of collateral is that at `now`, which a leeway of a minute does not change."""
    evidence = replace(EVIDENCE, now=LAST + 30 * SECOND)
    demands = {"clock_leeway": 60 * SECOND, "max_collateral_age": LAST - FIRST + 30 * SECOND}
    assert failed(evidence, **demands) == []
    assert failed(evidence, **demands | {"max_collateral_age": LAST - FIRST + 29 * SECOND}) == ["collateral-age"]


GRACE = (
    # platform, QE, grace of both in days, and the accepted statuses; the levels' dates are 10 days ago
    (TcbStatus.OUT_OF_DATE, TcbStatus.UP_TO_DATE, (0, 0), "UpToDate", False),
    (TcbStatus.OUT_OF_DATE, TcbStatus.UP_TO_DATE, (10, 0), "UpToDate", True),
    (TcbStatus.OUT_OF_DATE, TcbStatus.UP_TO_DATE, (9, 99), "UpToDate", False),
    (TcbStatus.OUT_OF_DATE, TcbStatus.UP_TO_DATE, (0, 0), "OutOfDate", True),
    (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, (0, 10), "UpToDate", True),
    (TcbStatus.UP_TO_DATE, TcbStatus.OUT_OF_DATE, (99, 9), "UpToDate", False),
    (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE, (10, 10), "UpToDate", True),
    (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE, (10, 9), "UpToDate", False),
    (TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE, (9, 10), "UpToDate", False),
    (TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED, TcbStatus.UP_TO_DATE, (10, 0), "UpToDate", False),
    (TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED, TcbStatus.UP_TO_DATE, (10, 0), "ConfigurationNeeded", True),
    (TcbStatus.SW_HARDENING_NEEDED, TcbStatus.OUT_OF_DATE, (0, 10), "SWHardeningNeeded", True),
    (TcbStatus.CONFIGURATION_NEEDED, TcbStatus.UP_TO_DATE, (99, 99), "UpToDate", False),
)


@pytest.mark.parametrize(("platform", "enclave", "grace", "accepted", "holds"), GRACE)
def test_grace_periods(platform, enclave, grace, accepted, holds):
    evidence = rated(platform, enclave, platform_date=NOW - 10 * DAY, enclave_date=NOW - 10 * DAY)
    demands = {"platform_grace_period": grace[0] * DAY, "qe_grace_period": grace[1] * DAY}
    assert failed(evidence, accepted_tcb_statuses=[accepted], **demands) == ([] if holds else ["tcb-status"])


def test_without_a_period_there_is_no_grace_by_a_future_date():
    evidence = rated(TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE, platform_date=NOW + DAY, enclave_date=NOW + DAY)
    assert failed(evidence) == ["tcb-status"]


STATUSES = [status for status in TcbStatus if status is not TcbStatus.REVOKED]


@given(
    st.sampled_from(STATUSES),
    st.sampled_from(sorted(QE_STATUSES - {TcbStatus.REVOKED}, key=str)),
    st.frozensets(st.sampled_from(STATUSES)),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_grace_accepts_nothing_but_what_is_out_of_date(platform, enclave, accepted, platform_days, enclave_days):
    """With grace, a quote is accepted if newer levels would be accepted, and otherwise refused."""
    evidence = rated(platform, enclave, platform_date=NOW - 10 * DAY, enclave_date=NOW - 10 * DAY)
    newer = {
        TcbStatus.OUT_OF_DATE: TcbStatus.UP_TO_DATE,
        TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED: TcbStatus.CONFIGURATION_NEEDED,
    }
    spared = rated(
        newer.get(platform, platform) if platform_days >= 10 else platform,
        TcbStatus.UP_TO_DATE if enclave_days >= 10 else enclave,
        platform_date=NOW - DAY,
        enclave_date=NOW - DAY,
    )
    demands = {"platform_grace_period": platform_days * DAY, "qe_grace_period": enclave_days * DAY}
    graceful = failed(evidence, accepted_tcb_statuses=accepted, **demands)
    assert graceful == failed(spared, accepted_tcb_statuses=accepted)


def test_the_longest_grace_period_is_no_error():
    evidence = rated(TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE, platform_date=NOW - DAY, enclave_date=NOW - DAY)
    assert failed(evidence, platform_grace_period=timedelta.max, qe_grace_period=timedelta.max) == []


WRONG_TYPES = {
    (Policy, "report_data"): [bytes(64)],
    (SgxPolicy, "mr_enclave"): [5],
    (SgxPolicy, "isv_prod_id"): ["1", True],
    (SgxPolicy, "min_isv_svn"): [1.0],
    (SgxPolicy, "allow_simulated"): ["no"],
    (SgxPolicy, "allow_debug"): [1],
    (SgxPolicy, "accepted_tcb_statuses"): ["OutOfDate", {3}],
    (SgxPolicy, "accepted_advisories"): [NEW],
    (SgxPolicy, "rejected_advisories"): [OLD, {334}],
    (SgxPolicy, "platforms"): [PPID, [7]],
    (SgxPolicy, "identities"): [[{"mr_enclave": bytes(32)}]],
    (SgxPolicy, "platform_grace_period"): [30],
    (SgxPolicy, "max_collateral_age"): ["30d"],
    (SgxPolicy, "clock_leeway"): [60],
    (TdxPolicy, "rtmr3"): [5],
    (TdxPolicy, "images"): [[b"image"], "image"],
    (TdImage, "mr_td"): [None],
}
WRONG_VALUES = {
    (SgxPolicy, "mr_enclave"): [b"short", "x" * 32],
    (SgxPolicy, "mr_signer"): [bytes(33)],
    (SgxPolicy, "report_data"): [bytes(32)],
    (SgxPolicy, "config_id"): [bytes(32)],
    (SgxPolicy, "isv_ext_prod_id"): [bytes(15)],
    (SgxPolicy, "isv_prod_id"): [-1],
    (SgxPolicy, "min_config_svn"): [65536],
    (SgxPolicy, "min_isv_svn"): [65536],
    (SgxPolicy, "accepted_tcb_statuses"): [{"outofdate"}, {TcbStatus.REVOKED}],
    (SgxPolicy, "accepted_advisories"): [["00615"]],
    (SgxPolicy, "rejected_advisories"): [{f"{OLD},{NEW}"}, {"INTEL-SA-334"}],
    (SgxPolicy, "platforms"): [[bytes(17)], ["x" * 32]],
    (SgxPolicy, "min_tcb_evaluation_number"): [-1],
    (SgxPolicy, "qe_grace_period"): [-DAY],
    (SgxPolicy, "clock_leeway"): [-SECOND, MAX_CLOCK_LEEWAY + SECOND],
    (Identity, "mr_enclave"): [None],
    (Identity, "isv_prod_id"): [3],
    (Identity, "mr_signer"): [bytes(31)],
    (TdxPolicy, "mr_td"): [bytes(32)],
    (TdxPolicy, "xfam"): [bytes(4)],
    (TdxPolicy, "td_attributes_mask"): [bytes(8)],
    (TdxPolicy, "accepted_tcb_statuses"): [["Revoked"]],
}
REFUSED = [("wrong-type", *one) for one in WRONG_TYPES.items()]
REFUSED += [("wrong-value", *one) for one in WRONG_VALUES.items()]


@pytest.mark.parametrize(("code", "argument", "values"), REFUSED)
def test_demands_that_no_quote_could_meet(code, argument, values):
    kind, name = argument
    for value in values:
        with raises(code, WrongTypeError if code == "wrong-type" else SettingsError, "remedy"):
            kind(**{name: value})


def test_no_policy_is_of_no_tee_and_no_mask_excludes_its_attributes():
    with raises("wrong-type", SettingsError, "remedy"):
        Policy()
    with raises("wrong-value", SettingsError, "remedy"):
        TdxPolicy(td_attributes=b"\1" * 8, td_attributes_mask=bytes(8))
