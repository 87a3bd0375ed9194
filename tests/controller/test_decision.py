import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.controller.decision import (
    Amount,
    Change,
    Decision,
    NodeFacts,
    Offer,
    Plugins,
    Requested,
    Rules,
    Shortfall,
    decide,
)
from confcom.kubernetes.epc_accounting import AccountingKind

EPC, OTHER = "example.com/epc", "simulated.example.com/epc"
RULES = Rules((EPC,), maximum_mib=1000, gone_seconds=300)
DEVICES = Offer(AccountingKind.DEVICE, EPC, 100)
NOTHING = Offer(None)


def capacity(mib, resource=EPC):
    return Offer(AccountingKind.CAPACITY, resource, mib)


def plugins(*offers, silent=0):
    return Plugins(len(offers) + silent, offers)


def decided(amount, found, *, asked=0, not_accepted=0, missing=0.0, read=True):
    requested = (Requested(asked + not_accepted, asked),) if read else None
    return decide(NodeFacts("n", "u", (amount,)), found, requested, (missing,), RULES)


def ours(mib):
    return Amount(mib, mib, ours=True)


def change(mib, *, lowers=False):
    return Decision((Change(EPC, mib, lowers=lowers),))


def short(asked, offered, *changes):
    return Decision(changes, (Shortfall(EPC, asked, offered),))


NO_AMOUNT = Amount()
ZERO, LONG, FORGED = Amount(0, 0), {"missing": 1e9}, {"not_accepted": 1 << 20}
ELSEWHERE = Offer(AccountingKind.DEVICE, OTHER, 100)
LITTLE, SOME, MUCH, NO_PLUGIN = plugins(capacity(10)), plugins(capacity(64)), plugins(capacity(5000)), plugins()
TO_40, FROM_0_TO_40 = Change(EPC, 40, lowers=True), Change(EPC, 40, lowers=False)
TO_10, TO_1000 = Change(EPC, 10, lowers=False), Change(EPC, 1000, lowers=False)
NONE_LEFT = plugins(capacity(0))
UNREAD, READS = {"read": False}, Decision(reads=True)
WAITS, KEEPS_40 = Decision(waits=True), {"asked": 10, "not_accepted": 30}
TABLE = {
    "a plugin's EPC is written": (NO_AMOUNT, SOME, {}, change(64)),
    "it is not written again": (ours(64), SOME, {}, Decision()),
    "allocatable alone differs": (Amount(64, 0, ours=True), SOME, {}, change(64)),
    "the zero of a dead device plugin": (ZERO, SOME, {}, change(64)),
    "devices are never touched": (Amount(28, 28), plugins(DEVICES), {}, Decision()),
    "devices that came later": (ours(64), plugins(DEVICES), LONG, Decision()),
    "one with devices stops the other": (NO_AMOUNT, plugins(capacity(64), DEVICES), {}, Decision()),
    "devices under another name": (NO_AMOUNT, plugins(capacity(64), ELSEWHERE), {}, change(64)),
    "the newest of two plugins": (ours(64), plugins(capacity(70), capacity(64)), {}, change(70)),
    "the amount is limited": (NO_AMOUNT, MUCH, {}, change(1000)),
    "less EPC takes some away": (ours(64), LITTLE, {}, change(10, lowers=True)),
    "no less than pods request": (ours(64), LITTLE, {"asked": 40}, short(40, 10, TO_40)),
    "pods that request all": (ours(64), SOME, {"asked": 64}, Decision()),
    "beyond the maximum, not written": (ZERO, MUCH, {"asked": 2000}, short(2000, 1000, TO_1000)),
    "beyond the maximum, it stays": (ours(3000), MUCH, {"asked": 2000}, short(2000, 1000)),
    "not accepted, there": (ours(64), SOME, FORGED, Decision()),
    "not accepted, none": (NO_AMOUNT, SOME, FORGED, change(64)),
    "not accepted, zero": (ZERO, SOME, FORGED, change(64)),
    "not accepted, less": (ours(10), SOME, FORGED, change(64)),
    "without the key, requests raise nothing": (NO_AMOUNT, LITTLE, {"asked": 40}, short(40, 10, TO_10)),
    "with the key, nor do they": (ours(10), LITTLE, {"asked": 40}, short(40, 10)),
    "a zero becomes what running pods request": (ZERO, LITTLE, {"asked": 40}, short(40, 10, FROM_0_TO_40)),
    "pods not accepted yet keep what is there": (ours(64), LITTLE, KEEPS_40, short(40, 10, TO_40)),
    "pods not accepted yet keep all": (ours(64), LITTLE, {"not_accepted": 70}, short(64, 10)),
    "pods not accepted yet keep the key": (ours(64), NO_PLUGIN, {"not_accepted": 1} | LONG, WAITS),
    "a plugin that does not answer": (ours(64), plugins(silent=1), LONG, Decision()),
    "one that does not answer, one without SGX": (ours(64), plugins(NOTHING, silent=1), LONG, Decision()),
    "a plugin that was there just now": (ours(64), NO_PLUGIN, {"missing": 299}, WAITS),
    "a plugin that is gone": (ours(64), NO_PLUGIN, {"missing": 300}, change(None, lowers=True)),
    "no SGX counts as gone": (ours(64), plugins(NOTHING), {"missing": 300}, change(None, lowers=True)),
    "the key stays while a pod requests some": (ours(64), NO_PLUGIN, {"asked": 1} | LONG, WAITS),
    "an offer of nothing keeps what pods request": (ours(64), NONE_LEFT, {"asked": 40}, short(40, 0, TO_40)),
    "and no more than that": (ours(40), NONE_LEFT, {"asked": 40}, short(40, 0)),
    "a zero then stays": (Amount(0, 5, ours=True), NONE_LEFT, {"not_accepted": 40} | LONG, WAITS),
    "so does a key of somebody else": (Amount(64, 64), NONE_LEFT, {"asked": 40}, Decision()),
    "nothing is written for the first time": (NO_AMOUNT, NONE_LEFT, {"asked": 40}, Decision()),
    "and goes without them": (ours(64), NONE_LEFT, LONG, change(None, lowers=True)),
    "a key of somebody else stays": (Amount(64, 64), NO_PLUGIN, LONG, Decision()),
    "a zero of somebody else stays": (ZERO, NO_PLUGIN, LONG, Decision()),
    "a node that has nothing": (NO_AMOUNT, NO_PLUGIN, LONG, Decision()),
    "a node that had our key": (Amount(None, None, ours=True), NO_PLUGIN, LONG, Decision()),
    "not read, a new amount": (NO_AMOUNT, SOME, UNREAD, change(64)),
    "not read, a larger one": (ours(10), SOME, UNREAD, change(64)),
    "not read, one that is right": (ours(64), SOME, UNREAD, Decision()),
    "not read, less": (ours(64), LITTLE, UNREAD, READS),
    "not read, a zero": (ZERO, SOME, UNREAD, READS),
    "not read, nothing is left": (ours(64), NONE_LEFT, UNREAD, READS),
    "not read, a plugin that is gone": (ours(64), NO_PLUGIN, UNREAD | LONG, READS),
}


@pytest.mark.parametrize(("amount", "found", "circumstances", "expected"), TABLE.values(), ids=TABLE)
def test_decision(amount, found, circumstances, expected):
    assert decided(amount, found, **circumstances) == expected


def test_the_key_of_another_platform_is_removed():
    rules = Rules((EPC, OTHER), maximum_mib=1000, gone_seconds=300)
    node = NodeFacts("n", "u", (ours(64), NO_AMOUNT))
    found = decide(node, plugins(capacity(32, OTHER)), (Requested(), Requested()), (300, 0), rules)
    assert found.changes == (Change(EPC, None, lowers=True), Change(OTHER, 32, lowers=False))


REQUESTED = st.tuples(st.integers(0, 3000), st.integers(0, 3000))
AMOUNTS = st.one_of(st.none(), st.integers(0, 3000))
NODES = st.builds(Amount, AMOUNTS, AMOUNTS, st.booleans())
OFFERS = st.lists(
    st.one_of(
        st.just(NOTHING),
        st.builds(
            Offer,
            st.sampled_from([AccountingKind.DEVICE, AccountingKind.CAPACITY]),
            st.sampled_from([EPC, OTHER]),
            st.integers(0, 5000),
        ),
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(NODES, OFFERS, st.integers(0, 2), REQUESTED, st.floats(0, 1000))
def test_the_promises_hold_for_every_node(amount, offers, silent, requested, missing):
    asked, not_accepted = requested
    circumstances = {"asked": asked, "not_accepted": not_accepted, "missing": missing}
    unread = decided(amount, plugins(*offers, silent=silent), missing=missing, read=False)
    read = decided(amount, plugins(*offers, silent=silent), **circumstances)
    assert unread.reads or unread.changes == read.changes
    assert not read.reads
    assert not (unread.reads and unread.changes)
    assert not any(change.lowers for change in unread.changes)
    for change in read.changes:
        there = amount.capacity or 0
        assert not any(one.kind is AccountingKind.DEVICE and one.resource == EPC for one in offers)
        if change.mib is None:
            assert amount.ours
            assert amount.capacity is not None
            assert asked + not_accepted == 0
            assert missing >= 300
            assert not silent
        else:
            assert 1 <= change.mib <= 1000
            assert change.mib >= min(asked + not_accepted, there, 1000)
            assert change.mib <= max(there, *(one.mib for one in offers), asked if amount.capacity == 0 else 0)
            assert amount.capacity != 0 or change.mib >= min(asked, 1000)
            assert any(one.kind is AccountingKind.CAPACITY and one.resource == EPC for one in offers)
        assert change.lowers or (change.mib or 0) >= there
        after = NO_AMOUNT if change.mib is None else ours(change.mib)
        carried_out = decided(after, plugins(*offers, silent=silent), **circumstances)
        assert carried_out.changes == (), "what was carried out is not decided again"
