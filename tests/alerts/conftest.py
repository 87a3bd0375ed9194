import shutil

import pytest


def program(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}: `apt-get install prometheus`")
    return path


@pytest.fixture(scope="session")
def promtool():
    return program("promtool")


@pytest.fixture(scope="session")
def prometheus_program():
    return program("prometheus")
