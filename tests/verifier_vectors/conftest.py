import pytest

from vectors.__main__ import write


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The folder of vectors, written once, and the SHA-256 of its index."""
    folder = tmp_path_factory.mktemp("vectors")
    return folder, write(folder)
