"""What a node's capacity has to be."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from confcom.controller.reconcile.decision import Change, Decision, Plugins, Rules, Shortfall, decide
from confcom.controller.reconcile.facts import NO_AMOUNT, Accounting, Amount, NodeFacts, Offer, Requested

EPC, OTHER = "example.com/epc", "simulated.example.com/epc"
RULES = Rules((EPC,), maximum_mib=1000, gone_seconds=300)
DEVICES = Offer(Accounting.DEVICE, EPC, 100)
NOTHING = Offer(Accounting.NOTHING)


def capacity(mib: int, resource: str = EPC) -> Offer:
    return Offer(Accounting.CAPACITY, resource, mib)


def plugins(*offers: Offer, silent: int = 0) -> Plugins:
    return Plugins(len(offers) + silent, offers)


def decided(amount: Amount, found: Plugins, *, asked: int = 0, not_accepted: int = 0, missing: float = 0.0) -> Decision:
    requested = Requested(asked + not_accepted, asked)
    return decide(NodeFacts("n", "u", (amount,)), found, (requested,), (missing,), RULES)


def ours(mib: int) -> Amount:
    return Amount(mib, mib, ours=True)


def test_a_plugins_epc_is_written() -> None:
    assert decided(NO_AMOUNT, plugins(capacity(64))) == Decision((Change(EPC, 64, takes=False),))


def test_what_is_there_is_not_written_again() -> None:
    assert decided(ours(64), plugins(capacity(64))) == Decision()


def test_allocatable_alone_that_differs_is_written() -> None:
    assert decided(Amount(64, 0, ours=True), plugins(capacity(64))).changes == (Change(EPC, 64, takes=False),)


def test_the_zero_of_a_dead_device_plugin_is_overwritten() -> None:
    assert decided(Amount(0, 0), plugins(capacity(64))).changes == (Change(EPC, 64, takes=False),)


def test_devices_are_never_touched() -> None:
    assert decided(Amount(28, 28), plugins(DEVICES)) == Decision()
    assert decided(ours(64), plugins(DEVICES), missing=1e9) == Decision()


def test_one_plugin_with_devices_stops_the_other_during_an_update() -> None:
    assert decided(NO_AMOUNT, plugins(capacity(64), DEVICES)) == Decision()


def test_devices_under_another_name_do_not_stop_what_is_written() -> None:
    found = plugins(capacity(64), Offer(Accounting.DEVICE, OTHER, 100))
    assert decided(NO_AMOUNT, found).changes == (Change(EPC, 64, takes=False),)


def test_the_newest_of_two_plugins_decides() -> None:
    assert decided(ours(64), plugins(capacity(70), capacity(64))).changes == (Change(EPC, 70, takes=False),)


def test_the_amount_is_limited() -> None:
    assert decided(NO_AMOUNT, plugins(capacity(5000))).changes == (Change(EPC, 1000, takes=False),)


def test_no_less_than_pods_request_is_written_and_the_shortfall_is_told() -> None:
    assert decided(ours(64), plugins(capacity(10)), asked=40) == Decision(
        (Change(EPC, 40, takes=True),), (Shortfall(EPC, 40, 10),)
    )


def test_pods_that_request_all_are_no_shortfall() -> None:
    assert decided(ours(64), plugins(capacity(64)), asked=64) == Decision()


def test_what_pods_request_beyond_the_maximum_is_not_written() -> None:
    found = decided(Amount(0, 0), plugins(capacity(5000)), asked=2000)
    assert found == Decision((Change(EPC, 1000, takes=False),), (Shortfall(EPC, 2000, 1000),))


def test_what_pods_request_beyond_the_maximum_stays() -> None:
    assert decided(ours(3000), plugins(capacity(5000)), asked=2000) == Decision((), (Shortfall(EPC, 2000, 1000),))


def test_pods_that_no_kubelet_has_accepted_raise_nothing() -> None:
    forged = 1 << 20
    assert decided(ours(64), plugins(capacity(64)), not_accepted=forged) == Decision()
    for there in (NO_AMOUNT, Amount(0, 0), ours(10)):
        assert decided(there, plugins(capacity(64)), not_accepted=forged) == Decision((Change(EPC, 64, takes=False),))


def test_without_the_key_a_kubelet_accepts_any_request_so_it_raises_nothing() -> None:
    assert decided(NO_AMOUNT, plugins(capacity(10)), asked=40) == Decision(
        (Change(EPC, 10, takes=False),), (Shortfall(EPC, 40, 10),)
    )
    assert decided(ours(10), plugins(capacity(10)), asked=40) == Decision((), (Shortfall(EPC, 40, 10),))


def test_a_node_that_was_set_to_zero_gets_back_what_pods_request_that_run() -> None:
    assert decided(Amount(0, 0), plugins(capacity(10)), asked=40) == Decision(
        (Change(EPC, 40, takes=False),), (Shortfall(EPC, 40, 10),)
    )


def test_pods_that_no_kubelet_has_accepted_yet_keep_what_is_there() -> None:
    assert decided(ours(64), plugins(capacity(10)), asked=10, not_accepted=30) == Decision(
        (Change(EPC, 40, takes=True),), (Shortfall(EPC, 40, 10),)
    )
    assert decided(ours(64), plugins(capacity(10)), not_accepted=70) == Decision((), (Shortfall(EPC, 64, 10),))
    assert decided(ours(64), plugins(), not_accepted=1, missing=1e9) == Decision(waits=True)


def test_less_epc_takes_some_away() -> None:
    assert decided(ours(64), plugins(capacity(10))).changes == (Change(EPC, 10, takes=True),)


def test_a_plugin_that_does_not_answer_changes_nothing() -> None:
    assert decided(ours(64), plugins(silent=1), missing=1e9) == Decision()
    assert decided(ours(64), plugins(NOTHING, silent=1), missing=1e9) == Decision()


def test_the_key_is_removed_after_the_plugin_has_been_gone() -> None:
    assert decided(ours(64), plugins(), missing=299) == Decision(waits=True)
    assert decided(ours(64), plugins(), missing=300) == Decision((Change(EPC, None, takes=True),))


def test_a_plugin_that_found_no_sgx_counts_as_gone() -> None:
    assert decided(ours(64), plugins(NOTHING), missing=300).changes == (Change(EPC, None, takes=True),)


def test_the_key_stays_while_a_pod_requests_some() -> None:
    assert decided(ours(64), plugins(), asked=1, missing=1e9) == Decision(waits=True)


def test_a_key_of_somebody_else_stays() -> None:
    assert decided(Amount(0, 0), plugins(), missing=1e9) == Decision()
    assert decided(Amount(64, 64), plugins(), missing=1e9) == Decision()


def test_a_node_that_has_nothing_is_left_alone() -> None:
    assert decided(NO_AMOUNT, plugins(), missing=1e9) == Decision()
    assert decided(Amount(None, None, ours=True), plugins(), missing=1e9) == Decision()


def test_the_key_of_another_platform_is_removed_from_a_node_that_changed() -> None:
    rules = Rules((EPC, OTHER), maximum_mib=1000, gone_seconds=300)
    node = NodeFacts("n", "u", (ours(64), NO_AMOUNT))
    found = decide(node, plugins(capacity(32, OTHER)), (Requested(), Requested()), (300, 0), rules)
    assert found.changes == (Change(EPC, None, takes=True), Change(OTHER, 32, takes=False))


REQUESTED = st.tuples(st.integers(0, 3000), st.integers(0, 3000))
AMOUNTS = st.one_of(st.none(), st.integers(0, 3000))
NODES = st.builds(Amount, AMOUNTS, AMOUNTS, st.booleans())
OFFERS = st.lists(
    st.one_of(
        st.just(NOTHING),
        st.builds(
            Offer,
            st.sampled_from([Accounting.DEVICE, Accounting.CAPACITY]),
            st.sampled_from(["", EPC, OTHER]),
            st.integers(0, 5000),
        ),
    ),
    max_size=3,
)


@settings(max_examples=60)
@given(NODES, OFFERS, st.integers(0, 2), REQUESTED, st.floats(0, 1000))
def test_the_promises_hold_for_every_node(
    amount: Amount, offers: list[Offer], silent: int, requested: tuple[int, int], missing: float
) -> None:
    asked, not_accepted = requested
    found = decided(amount, plugins(*offers, silent=silent), asked=asked, not_accepted=not_accepted, missing=missing)
    for change in found.changes:
        there = amount.capacity or 0
        assert not any(one.accounting is Accounting.DEVICE and one.resource in {"", EPC} for one in offers)
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
            assert any(one.accounting is Accounting.CAPACITY and one.resource == EPC for one in offers)
        assert change.takes or (change.mib or 0) >= there


@settings(max_examples=60)
@given(NODES, OFFERS, st.integers(0, 2), REQUESTED, st.floats(0, 1000))
def test_what_was_carried_out_is_not_decided_again(
    amount: Amount, offers: list[Offer], silent: int, requested: tuple[int, int], missing: float
) -> None:
    asked, not_accepted = requested
    found = plugins(*offers, silent=silent)
    for change in decided(amount, found, asked=asked, not_accepted=not_accepted, missing=missing).changes:
        after = NO_AMOUNT if change.mib is None else ours(change.mib)
        assert decided(after, found, asked=asked, not_accepted=not_accepted, missing=missing).changes == ()
