"""A device plugin whose stderr is a pipe that nobody reads, from its start on."""

import os
import signal

from confcom.errors import ExitCode
from confcom.kubernetes.names import REAL
from testkit.full_pipe import full_pipe

EPC = REAL.epc


async def test_a_stalled_log_reader_stops_nothing(kubelet, start_listed):
    reader, writer = full_pipe()
    plugin = await start_listed(stderr=writer)
    os.close(writer)
    assert len(await kubelet.ask(EPC, kubelet.lists[EPC][:4])) == 1
    await kubelet.drop(EPC)
    await kubelet.until_list(EPC, registrations=2)
    for path in ("/livez", "/readyz"):
        assert await plugin.get(path) == (200, "ok\n")
    assert [sample.value for sample in await plugin.metrics("confcom_log_records_dropped_total")] == [0]
    assert await plugin.end(signal.SIGTERM) == ExitCode.OK
    assert not plugin.probe.exists()
    os.close(reader)
