import shutil
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def short_dir():
    """A directory whose path leaves room for a unix socket's name."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    yield directory
    shutil.rmtree(directory)
