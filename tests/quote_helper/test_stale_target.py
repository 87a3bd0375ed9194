"""42 or 47: for how long a client's target info may be the one of the quoting enclave before."""

import pytest

from confcom.aesm.error_code import AesmErrorCode
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy

ASK_AGAIN, FINAL = AesmErrorCode.ATT_KEY_NOT_INITIALIZED, AesmErrorCode.INVALID_REPORT


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_from_its_first_quote_on_it_asks_clients_to_init_again_until_the_window_ends(clock):
    policy = StaleTargetPolicy(60, clock)
    clock.now += 500
    policy.quotes_for(b"one")
    assert policy.code_for_rejected_report() is ASK_AGAIN
    clock.now += 59
    policy.quotes_for(b"one")
    assert policy.code_for_rejected_report() is ASK_AGAIN
    clock.now += 1
    assert policy.code_for_rejected_report() is FINAL


def test_a_changed_quoting_enclave_opens_the_window_again(clock):
    policy = StaleTargetPolicy(60, clock)
    policy.quotes_for(b"one")
    clock.now += 100
    assert policy.code_for_rejected_report() is FINAL
    policy.quotes_for(b"two")
    assert policy.code_for_rejected_report() is ASK_AGAIN


def test_whoever_takes_over_without_a_change_is_final_at_once(clock):
    policy = StaleTargetPolicy(60, clock)
    policy.quotes_for(b"one")
    policy.took_over_from(b"one")
    assert policy.code_for_rejected_report() is FINAL


def test_whoever_takes_over_with_a_change_is_not(clock):
    policy = StaleTargetPolicy(60, clock)
    policy.quotes_for(b"two")
    policy.took_over_from(b"one")
    assert policy.code_for_rejected_report() is ASK_AGAIN


def test_no_window_means_final(clock):
    policy = StaleTargetPolicy(0, clock)
    policy.quotes_for(b"one")
    assert policy.code_for_rejected_report() is FINAL
