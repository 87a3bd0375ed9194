"""Pauses between the writes of one node."""

from confcom.controller.limits_and_deadlines import CALM_SECONDS, LONGEST_REWRITE_SECONDS
from confcom.controller.pacing import WritePacing


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
