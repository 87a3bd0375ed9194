from confcom.controller.backoff import CALM_SECONDS, LONGEST_PAUSE_SECONDS, NodeBackoff


def test_a_calm_node_is_looked_at_at_once():
    now = 0.0
    backoff = NodeBackoff(lambda: now)
    for _ in range(20):
        backoff.did("n")
    now = LONGEST_PAUSE_SECONDS - 1
    assert not backoff.may("n")
    now = CALM_SECONDS
    assert backoff.may("n")
    assert not backoff.did("n")
    now += 1
    assert backoff.may("n")
