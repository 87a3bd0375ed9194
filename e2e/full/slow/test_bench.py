"""`make bench-e2e` at its smallest: whoever changes how the add-on is installed hears of it here."""

from collections import Counter

import pytest

from bench.cluster.measure import SGX_NODES, Plan, measure, uninstall
from bench.cluster.table import as_json, as_table

SLOW_SECONDS = 500
"""Two kubelets' reports, a restart and two updates, on a busy machine."""
SMALLEST = Plan(rounds=1, quotes=100, starts=1, restarts=1, updates=1, idle_seconds=1.0, applications=(1, 2))
"""One quote in a hundred is verified."""
FROM_PODS_AND_FROM_THE_NODE = 2


@pytest.fixture
def directory(tmp_path):
    """The nodes see it too."""
    made = tmp_path / "bench"
    made.mkdir()
    return made


@pytest.mark.timeout(SLOW_SECONDS, func_only=True)
def test_all_of_it_is_measured_on_two_nodes(cluster, nodes, directory) -> None:
    said = []
    try:
        results = measure(cluster, SMALLEST, directory, say=said.append)
    finally:
        uninstall(cluster)
    served = [node.name for node in nodes[:SGX_NODES]]
    assert Counter(idle.node for idle in results.idle) == dict.fromkeys(served, 2)
    assert results.verified == FROM_PODS_AND_FROM_THE_NODE * SMALLEST.processes
    assert Counter(update.node for update in results.updates) == dict.fromkeys(served, 2)
    assert len(as_json(results)["quotes"]) == FROM_PODS_AND_FROM_THE_NODE
    assert "quotes per second, from pods" in as_table(results)
    assert said
