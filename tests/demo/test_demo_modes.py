from pathlib import Path

import pytest

from confcom.namespaces.modes import Mode

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def machine():
    devices = sorted(entry.name for entry in Path("/dev").iterdir())
    return devices, Path("/run/aesmd").exists(), Path("/proc/self/mounts").read_text()


async def test_the_demo_holds_in_mode(play, mode):
    before = machine()
    report = await play(mode=mode)
    assert machine() == before
    assert report.ok, report.steps[-1].error
    assert report.mode == report.steps[1].data["mode"] == mode
    output = report.steps[3].data["output"]
    assert ("AESM socket: /var/run/aesmd/aesm.socket" in output) is (mode is not Mode.NO_NAMESPACE)
    assert "enclave memory: 10 MiB" in output
    assert "SGX platform: simulated" in output
