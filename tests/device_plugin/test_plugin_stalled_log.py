"""A device plugin whose stderr is a pipe that nobody reads, from its start on."""

import asyncio
import json
import os
import signal
import threading

import pytest

from confcom.daemon.log_stream import MAX_WAITING_RECORDS
from confcom.device_plugin.resources import ENCLAVE_RESOURCE as ENCLAVE
from confcom.device_plugin.resources import EPC_RESOURCE as EPC
from confcom.errors import ExitCode
from testkit.full_pipe import full_pipe, lines_of

# The plugin as it is, beside a library in its process that logs a great deal.
TALKATIVE = """
import logging, os, sys, threading
from confcom.device_plugin.main import main

def talk():
    while not logging.getLogger().handlers:
        pass
    for number in range(int(sys.argv[1])):
        logging.getLogger("library").warning("word %d", number)

threading.Thread(target=talk).start()
sys.exit(main(sys.argv[2:], prog="test", environ=os.environ, stderr=sys.stderr))
"""


@pytest.fixture
async def start_stalled(start_plugin):
    """Start a plugin with a full stderr: the plugin, and where its log is read."""

    async def start(**how):
        reader, writer = full_pipe()
        plugin = await start_plugin(stderr=writer, **how)
        os.close(writer)
        return plugin, reader

    return start


async def test_a_log_reader_that_stalls_stops_neither_the_kubelet_nor_probes_nor_the_end(kubelet, start_stalled):
    await kubelet.start()
    plugin, reader = await start_stalled()
    await kubelet.until_list(EPC, ENCLAVE)
    assert len(await kubelet.allocate(EPC, kubelet.lists[EPC][:4])) == 1
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    for path in ("/livez", "/readyz"):
        assert await plugin.get(path) == (200, b"ok\n")
    assert await plugin.end(signal.SIGTERM) == ExitCode.OK
    assert not plugin.probe.exists()
    os.close(reader)


async def test_when_the_reader_goes_on_it_is_told_how_much_it_missed(kubelet, start_stalled):
    await kubelet.start()
    spoken = MAX_WAITING_RECORDS + 1000
    plugin, reader = await start_stalled(program=("-c", TALKATIVE, str(spoken)))
    await kubelet.until_list(EPC, ENCLAVE)
    async with asyncio.timeout(30):
        while await plugin.metric("confcom_log_records_dropped_total") < spoken - MAX_WAITING_RECORDS:
            pass
    text = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read():
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                text.append(data)
                if b'"event": "log-records-dropped"' in b"".join(text[-2:]):
                    loop.call_soon_threadsafe(told.set)

    thread = threading.Thread(target=read)
    thread.start()
    await asyncio.wait_for(told.wait(), 30)
    assert await plugin.end(signal.SIGTERM) == ExitCode.OK
    thread.join()
    lines = [json.loads(line) for line in lines_of(b"".join(text))]
    (line,) = [line for line in lines if line.get("event") == "log-records-dropped"]
    assert line["count"] >= spoken - MAX_WAITING_RECORDS
    assert lines[-1]["signal"] == "SIGTERM"
