"""A device plugin whose stderr is a pipe that nobody reads, from its start on."""

import asyncio
import json
import os
import signal
import sys
import threading

import pytest

from confcom.daemon.log_stream import MAX_WAITING_RECORDS
from confcom.device_plugin.resources import ENCLAVE_RESOURCE as ENCLAVE
from confcom.device_plugin.resources import EPC_RESOURCE as EPC
from confcom.errors import ExitCode
from testkit.fresh_metrics import FreshPage
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
async def start_stalled(directory):
    """Start a plugin with a full stderr: (process, probe's path, where its log is read)."""
    started = []

    async def start(*program):
        reader, writer = full_pipe()
        probe = directory.parent / "probe"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "--device-plugin-dir", str(directory), "--probe-address", f"unix:{probe}"),
            *("--simulated", "--host-root", str(directory / "host"), "--log-format", "json"),
            stderr=writer,
        )
        os.close(writer)
        started.append(process)
        return process, probe, reader

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def get(probe, path):
    reader, writer = await asyncio.open_unix_connection(str(probe))
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


async def test_a_log_reader_that_stalls_stops_neither_the_kubelet_nor_probes_nor_the_end(
    kubelet, directory, start_stalled
):
    await kubelet.start()
    process, probe, reader = await start_stalled("-m", "confcom.device_plugin")
    await kubelet.until_list(EPC, ENCLAVE)
    assert len(await kubelet.allocate(EPC, kubelet.lists[EPC][:4])) == 1
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    for path in ("/livez", "/readyz"):
        assert await get(probe, path) == (200, "ok\n")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == ExitCode.OK
    assert not probe.exists()
    os.close(reader)


async def test_when_the_reader_goes_on_it_is_told_how_much_it_missed(kubelet, start_stalled):
    await kubelet.start()
    spoken = MAX_WAITING_RECORDS + 1000
    process, probe, reader = await start_stalled("-c", TALKATIVE, str(spoken))
    await kubelet.until_list(EPC, ENCLAVE)

    page = FreshPage()

    async def dropped():
        _, text = await get(probe, "/metrics")
        page.received()
        (value,) = [line.split()[1] for line in text.splitlines() if line.startswith("confcom_log_records_dropped_tot")]
        return float(value)

    async with asyncio.timeout(30):
        while await dropped() < spoken - MAX_WAITING_RECORDS:
            await page.wait_async()
    text = []
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def read():
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while data := pipe.read(65536):
                text.append(data)
                if b"log records were dropped" in b"".join(text[-2:]):
                    loop.call_soon_threadsafe(told.set)

    thread = threading.Thread(target=read)
    thread.start()
    await asyncio.wait_for(told.wait(), 30)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == ExitCode.OK
    thread.join()
    lines = [json.loads(line) for line in lines_of(b"".join(text))]
    (line,) = [line for line in lines if line["message"] == "log records were dropped"]
    assert line["count"] >= spoken - MAX_WAITING_RECORDS
    assert lines[-1]["message"] == "stopping"
