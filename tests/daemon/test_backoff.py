from hypothesis import given
from hypothesis import strategies as st

from confcom.daemon.backoff import CALM_SECONDS, LONGEST_PAUSE_SECONDS, KeyedBackoff, retry_pause


@given(st.integers(0, 2000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_within_their_bounds(failures, jitter):
    longest = 5.0 if failures > 7 else 0.02 * 2**failures
    assert longest / 2 <= retry_pause(failures, lambda: jitter, first=0.02, longest=5.0) <= longest


def test_a_calm_node_is_looked_at_at_once():
    now = 0.0
    backoff = KeyedBackoff(lambda: now)
    for _ in range(20):
        backoff.did("n")
    now = LONGEST_PAUSE_SECONDS - 1
    assert not backoff.may("n")
    now = CALM_SECONDS
    assert backoff.may("n")
    assert not backoff.did("n")
    now += 1
    assert backoff.may("n")
