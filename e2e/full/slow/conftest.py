"""What the cases under load share."""

import itertools

import pytest

from e2e.load.outcome import Trust
from e2e.load.pods import Load


@pytest.fixture
def trust(add_on, tmp_path):
    """The cluster's root and collateral, as a relying party got them when the case began."""
    now = add_on.export(tmp_path / "trust")
    return Trust(tmp_path / "trust", now)


@pytest.fixture
def start_load(add_on, namespace, tmp_path):
    """Starts eight clients of all kinds, which together hold so much EPC of each node."""
    numbers = itertools.count()

    def start(offered_mib, rate):
        folder = tmp_path / f"load-{next(numbers)}"
        folder.mkdir()
        return Load.start(add_on.cluster, namespace, add_on.nodes, offered_mib=offered_mib, rate=rate, folder=folder)

    return start
