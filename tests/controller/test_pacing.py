"""Pauses between the writes of one node."""

from confcom.controller.limits_and_deadlines import CALM_SECONDS, LONGEST_REWRITE_SECONDS
from confcom.controller.pacing import WritePacing


def test_nothing_is_kept_of_nodes_that_are_not_written_any_more():
    now = 0.0
    pacing = WritePacing(lambda: now)
    for number in range(100):
        pacing.wrote(str(number))
    now = CALM_SECONDS - 1
    pacing.wrote("busy")
    pacing.forget_calm()
    assert len(pacing._last) == 101
    now = CALM_SECONDS
    pacing.forget_calm()
    assert list(pacing._last) == ["busy"]


def test_a_calm_node_is_written_at_once():
    now = 0.0
    pacing = WritePacing(lambda: now)
    for _ in range(20):
        pacing.wrote("n")
    now = LONGEST_REWRITE_SECONDS - 1
    assert not pacing.may_write("n")
    now = CALM_SECONDS
    assert pacing.may_write("n")
    assert not pacing.wrote("n")
    now += 1
    assert pacing.may_write("n")
