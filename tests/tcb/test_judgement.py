"""The judgement of SVNs has dcap-qvl's status, and raising the SVNs that are short raises this status."""

from dataclasses import replace

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.sgx.pck.chain import PckChain
from confcom.sgx.pck.extension import SGX_EXTENSION_OID, PckExtension, PckTcb
from confcom.sgx.pck.platform_page import CertifiedTcb, SgxKind
from confcom.sgx.tcb_documents import PLATFORM_STATUSES, QE_STATUSES, TcbStatus
from confcom.simulation.collateral_staging import Staging
from confcom.tcb.judgement import Svns, judge
from confcom.tcb.quotes import svns_of
from confcom.verify.checks.dcap_qvl_appraisal import Appraisal
from testkit.verify.genuine_quotes import genuine
from testkit.verify.td_lab import TdxLab, module_level
from testkit.verify.verify_lab import Lab

LAB, TDX_LAB = Lab(), TdxLab()
KINDS = ("sgxtcbcomponents", "tdxtcbcomponents")
SVN, FEW = st.integers(0, 3), st.lists(st.integers(0, 3), min_size=16, max_size=16)
GIVEN_DATE = "2026-11-01T00:00:00Z"


def near(svns):
    """SVNs that differ from these in at most two places, so that a level is reached about as often as not."""
    changes = st.dictionaries(st.integers(0, len(svns) - 1), st.integers(-2, 1), max_size=2)
    return changes.map(lambda found: [max(0, svn + found.get(index, 0)) for index, svn in enumerate(svns)])


def levels(own, tdx=()):
    """Levels near a platform's SVNs: 16 components and the PCE, and in TDX the module's components."""

    def level(svns, tdx_svns, status, advisories):
        tcb = {KINDS[0]: components(svns[:16]), "pcesvn": svns[16]}
        tcb |= {KINDS[1]: components(tdx_svns)} if tdx else {}
        return {"tcb": tcb, "tcbDate": GIVEN_DATE, "tcbStatus": status, "advisoryIDs": advisories}

    advisories = st.lists(st.sampled_from(["INTEL-SA-00001", "INTEL-DOC-10001"]), unique=True)
    statuses = st.sampled_from(sorted(PLATFORM_STATUSES))
    return st.lists(
        st.builds(level, near(own), near(tdx) if tdx else st.just(()), statuses, advisories), min_size=1, max_size=4
    )


def components(svns):
    return [{"svn": svn} for svn in svns]


def with_svns(lab, evidence, svns, pce_svn):
    """The same platform with another PCK certificate, as after an update."""
    own = PckExtension.from_certificate(lab.platform.pki.pck.certificate)
    value = replace(own, tcb=PckTcb(tuple(svns), pce_svn, bytes(svns))).encode()
    replacing = x509.UnrecognizedExtension(SGX_EXTENSION_OID, value)
    leaf = lab.reissue(lab.platform.pki.pck, lab.platform.pki.pck_ca, replacing=replacing)
    return lab.with_chain(evidence, leaf, *lab.chain[1:])


def judged(evidence):
    """Our judgement of the quote's SVNs, which has dcap-qvl's status."""
    theirs = evidence.appraisal()
    ours = judge(svns_of(evidence.quote, SgxKind.SIMULATED)[0], evidence.collateral.read())
    if isinstance(theirs, Appraisal):
        assert (ours.status, ours.advisory_ids) == (theirs.status, theirs.advisory_ids)
    else:  # dcap-qvl gives no status of what it refuses
        assert ours.status in {None, TcbStatus.REVOKED}
    return ours


@settings(max_examples=60)
@given(st.data(), FEW, SVN, st.sampled_from(sorted(QE_STATUSES)))
def test_any_svns_and_levels_have_dcap_qvls_status(data, svns, pce_svn, qe_status):
    given_levels = data.draw(levels((*svns, pce_svn)))
    key = LAB.platform.pki.tcb_signer.private_key
    evidence = with_svns(LAB, LAB.evidence(), svns, pce_svn)
    evidence = LAB.edit_json(evidence, "tcb_info", lambda info: info.update(tcbLevels=given_levels), key=key)
    level = {"tcb": {"isvsvn": 0}, "tcbDate": GIVEN_DATE, "tcbStatus": qe_status}
    with_qe = LAB.edit_json(evidence, "qe_identity", lambda identity: identity.update(tcbLevels=[level]))
    ours = judged(with_qe)
    node = Svns.of_node(SgxKind.SIMULATED, CertifiedTcb.of(PckChain.from_quote(evidence.parsed).leaf))
    of_node, of_quote = judge(node, evidence.collateral.read()), judged(evidence)
    assert replace(of_node, shortages=()) == replace(of_quote, shortages=())
    require_shortages_to_be_the_difference(ours, given_levels, (*svns, pce_svn))


def require_shortages_to_be_the_difference(ours, given_levels, own):
    """With the short SVNs raised to what is needed, and no other changed, a level is reached that is UpToDate."""
    wanted = [one for one in given_levels if one["tcbStatus"] == "UpToDate"]
    parts = [f"component {number}" for number in range(1, 17)] + ["PCESVN"]
    needed = {one.part: one for one in ours.shortages}
    assert all(one.has == own[parts.index(name)] < one.needs for name, one in needed.items() if name in parts)
    if not wanted or ours.status is TcbStatus.UP_TO_DATE:
        return
    raised = [needed[part].needs if part in needed else svn for part, svn in zip(parts, own, strict=True)]
    svns = [[*(each["svn"] for each in one["tcb"][KINDS[0]]), one["tcb"]["pcesvn"]] for one in wanted]
    assert any(all(has >= need for has, need in zip(raised, one, strict=True)) for one in svns)


@settings(max_examples=40)
@given(st.data(), st.tuples(FEW, SVN), st.tuples(SVN, SVN, st.sampled_from([0, 1])))
def test_any_svns_of_a_td_have_dcap_qvls_status(data, own, module):
    (svns, pce_svn), (launch, current, version) = own, module
    statuses, others = data.draw(st.lists(st.sampled_from(sorted(QE_STATUSES)), max_size=2)), data.draw(FEW)[2:]
    modules = [bytes([svn, version, *others]) for svn in (launch, current)]
    given_levels = data.draw(levels((*svns, pce_svn), tuple(modules[0])))

    def edit(info):
        info["tcbLevels"] = given_levels
        of_modules = [module_level(3 - number, status) for number, status in enumerate(statuses)]
        info["tdxModuleIdentities"][0]["tcbLevels"] = of_modules or [module_level(0)]

    evidence = TDX_LAB.evidence(tee_tcb_svn=modules[0], tee_tcb_svn2=modules[1])
    evidence = TDX_LAB.edit_json(evidence, "tcb_info", edit)
    judged(with_svns(TDX_LAB, evidence, svns, pce_svn))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("lab", [LAB, TDX_LAB], ids=["SGX", "TDX"])
@pytest.mark.parametrize("staging", [staging for staging in Staging if staging is not Staging.EXPIRED])
def test_every_staging_has_dcap_qvls_status(staging, lab, early):
    ours = judged(replace(lab.evidence(), collateral=lab.collateral(staging=staging, early=early)))
    assert (ours.status is TcbStatus.REVOKED) == (staging is Staging.REVOKED)
    superseded = ours.status in {TcbStatus.OUT_OF_DATE, TcbStatus.REVOKED}
    assert bool(ours.shortages) == (superseded or ours.status is TcbStatus.TD_RELAUNCH_ADVISED)


def test_each_short_svn_is_told_with_what_raises_it():
    ours, of_td = (
        judged(replace(lab.evidence(), collateral=lab.collateral(staging=Staging.OUT_OF_DATE)))
        for lab in (LAB, TDX_LAB)
    )
    assert [(one.part, one.has, one.needs, one.kind.category, one.kind.type) for one in ours.shortages] == [
        ("component 1", 2, 3, "BIOS", "Early Microcode Update"),
        ("component 2", 2, 3, "OS/VMM", "SGX Late Microcode Update"),
    ]
    parts = {one.part.partition(" at ")[0] for one in of_td.shortages}
    assert parts == {"component 1", "component 2", "TDX module TDX_01"}


def level(status, svns=(), pce_svn=0, kinds=(), advisories=()):
    tcb = {KINDS[0]: components([*svns, *(0,) * (16 - len(svns))]), "pcesvn": pce_svn}
    for number, (category, kind) in dict(kinds).items():
        tcb[KINDS[0]][number] |= {"category": category} | ({"type": kind} if kind else {})
    return {"tcb": tcb, "tcbDate": GIVEN_DATE, "tcbStatus": status, "advisoryIDs": list(advisories)}


LOWEST = level("OutOfDate")


@pytest.mark.parametrize(
    ("given_levels", "texts"),
    [
        ([level("UpToDate", [3, 3]), LOWEST], ["component 1: has 2, needs 3", "component 2: has 2, needs 3"]),
        ([level("UpToDate", [2, 4], kinds={1: ("BIOS", "")}), LOWEST], ["component 2: has 2, needs 4 -> BIOS"]),
        ([level("UpToDate", [3], kinds={0: ("BIOS", "Early Microcode Update")}), LOWEST], ["(Early Microcode Update)"]),
        ([level("UpToDate", [3]), LOWEST], ["component 1: has 2, needs 3 (Intel names no cause)"]),
        ([level("UpToDate", pce_svn=13), LOWEST], ["PCESVN: has 2, needs 13"]),
        ([level("UpToDate", [9, 9]), level("UpToDate", [3]), LOWEST], ["component 1: has 2, needs 3"]),
        ([level("SWHardeningNeeded", [2]), LOWEST], []),
        ([level("SWHardeningNeeded", [5]), LOWEST], ["component 1: has 2, needs 5"]),
        ([level("UpToDate", [2]), level("Revoked")], []),
        ([level("UpToDate", [7])], ["component 1: has 2, needs 7"]),
    ],
)
def test_the_nearest_level_that_is_up_to_date_is_the_aim(given_levels, texts):
    evidence = LAB.edit_json(LAB.evidence(), "tcb_info", lambda info: info.update(tcbLevels=given_levels))
    ours = judged(evidence)
    assert len(ours.shortages) == len(texts)
    assert all(text in one.text for text, one in zip(texts, ours.shortages, strict=True))


@pytest.mark.parametrize(
    ("document", "serviced"), [("INTEL-DOC-10000", False), ("INTEL-DOC-10001", False), ("INTEL-SA-00001", True)]
)
def test_the_end_of_servicing_is_told(document, serviced):
    own = [level("OutOfDate", advisories=[document])]
    ours = judged(LAB.edit_json(LAB.evidence(), "tcb_info", lambda info: info.update(tcbLevels=own)))
    assert ours.serviced is serviced


@pytest.mark.parametrize(
    ("name", "status", "parts"),
    [
        ("sgx_quote", "ConfigurationAndSWHardeningNeeded", ["component 7"]),
        ("tdx_quote", "UpToDate", []),
        ("tdx_quote_td15ex", "UpToDate", []),
        ("tdx_quote_outdated", None, ["component 8"]),
    ],
)
def test_genuine_quotes_by_their_collateral(name, status, parts):
    evidence = genuine(name)
    ours = judge(svns_of(evidence.quote, SgxKind.HARDWARE)[0], evidence.collateral.read())
    assert (ours.status, [one.part for one in ours.shortages]) == (status, parts)
    assert ours.next_update > evidence.now
