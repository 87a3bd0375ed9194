from confcom.controller.pacing import CALM_SECONDS, LONGEST_PAUSE_SECONDS, NodePacing


def test_a_calm_node_is_looked_at_at_once():
    now = 0.0
    pacing = NodePacing(lambda: now)
    for _ in range(20):
        pacing.did("n")
    now = LONGEST_PAUSE_SECONDS - 1
    assert not pacing.may("n")
    now = CALM_SECONDS
    assert pacing.may("n")
    assert not pacing.did("n")
    now += 1
    assert pacing.may("n")
