import asyncio
import logging

import pytest
import uvloop


def pytest_asyncio_loop_factories(config, item):
    """Run tests on asyncio and on uvloop, because daemons run on both and the transports differ."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], _ = before
    root.setLevel(before[1])
