"""Limits that are adapted to the descriptors that a process may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.quote_helper.limits_and_deadlines import CONNECTION_MEMORY, HelperLimits

DEFAULTS = HelperLimits()
UNREAD = DEFAULTS.client_memory // CONNECTION_MEMORY


def test_nothing_changes_with_enough_descriptors():
    assert DEFAULTS.with_descriptors(4096 + UNREAD) == DEFAULTS


@pytest.mark.parametrize(
    ("available", "connections", "unread"),
    [(20_000, 4096, 15_904), (4096 + UNREAD - 1, 4096, UNREAD - 1), (960, 640, 320)],
)
def test_connections_without_an_answer_come_first(available, connections, unread):
    limits = DEFAULTS.with_descriptors(available)
    assert (limits.max_connections, limits.client_memory) == (connections, unread * CONNECTION_MEMORY)
    assert limits.max_waiting == connections // 2


@given(available=st.integers(1, 100_000), places=st.integers(1, 50_000), memory=st.integers(CONNECTION_MEMORY, 1 << 30))
def test_both_have_what_there_is_and_never_more_than_was_wanted(available, places, memory):
    wanted = HelperLimits(max_connections=places, client_memory=memory)
    limits = wanted.with_descriptors(available)
    assert 1 <= limits.max_connections <= places
    assert limits == wanted or 1 <= limits.max_waiting <= limits.max_connections
    assert 0 < limits.client_memory <= memory
    # One of each is the least.
    assert limits.descriptors <= max(available, 2)
