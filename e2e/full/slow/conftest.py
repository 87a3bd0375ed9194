"""Fixtures of the cases under load."""

import itertools
import tempfile
from pathlib import Path

import pytest

from e2e import images
from e2e.cluster import Cluster
from e2e.load.pods import Load
from e2e.relying_party import RelyingParty


@pytest.fixture(scope="module")
def start_own_cluster():
    """Starts a cluster for the module, with the images, in place of the session's; it ends with the module."""
    folder = Path(tempfile.mkdtemp(prefix="ce2e-", dir="/tmp"))  # a short path for unix sockets
    folder.rmdir()

    def start(shape):
        built = images.build_all()
        made = Cluster.up(folder, shape)
        for image in images.IMAGES:
            made.import_image(built.archive(image))
        return made

    yield start
    Cluster.down(folder)


@pytest.fixture
def party(add_on, tmp_path):
    """A relying party that got the cluster's root and collateral when the case began."""
    return RelyingParty.of(add_on.cluster, tmp_path / "trust")


@pytest.fixture
def start_load(add_on, namespace, tmp_path):
    """Starts eight clients of all kinds, which together hold this amount of EPC on each node."""
    numbers = itertools.count()

    def start(offered_mib, rate):
        folder = tmp_path / f"load-{next(numbers)}"
        folder.mkdir()
        return Load.start(add_on.cluster, namespace, add_on.nodes, offered_mib=offered_mib, rate=rate, folder=folder)

    return start
