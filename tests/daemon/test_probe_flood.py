"""Floods probe servers of real daemons. `python -m testkit.probe_flood` runs more floods, and times quotes."""

import subprocess
import sys
import time

import pytest

from testkit import probe_flood
from testkit.probe_flood import Flood

SECONDS = 3
PATIENT = {"/livez": 50.0, "/readyz": 50.0}
"""Long timeouts for busy machines; only closed, refused or wrongly answered connections fail a test."""
FLOODS = [
    Flood("ask", "/readyz", 1, 3000),
    Flood("ask", "/readyz", 33, 200),
    Flood("ask", "/metrics", 110, 1000),
    Flood("half", "/readyz", 1000, 1000),
    Flood("silent", "/readyz", 110, 1000),
    Flood("unread", "/metrics", 33, 200),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(probe_flood.compiler() is None, reason="the generator needs a C compiler"),
]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return probe_flood.build(tmp_path_factory.mktemp("flood"))


@pytest.fixture(scope="module")
def helper():
    port = probe_flood.free_port()
    with probe_flood.helper_at(port) as running:
        yield port, probe_flood.quoting(running.socket)


@pytest.mark.parametrize("flood", FLOODS, ids=str)
def test_no_probe_of_a_flooded_helper_fails(generator, helper, flood):
    port, quote = helper
    with probe_flood.flooding(generator, port, SECONDS, flood) as counts:
        seen = probe_flood.observe(port, SECONDS, quote, PATIENT)
    assert counts["started"] > flood.rate
    assert seen.probes
    assert seen.quotes
    assert not seen.failures
    assert not seen.quote_failures


def test_no_probe_of_a_flooded_plugin_fails(generator, short_dir):
    """All daemons share the probe server's code; the plugin's `/inventory` is the costliest small page."""
    port = probe_flood.free_port()
    where = ("--device-plugin-dir", str(short_dir), "--host-root", str(short_dir / "host"))
    command = (sys.executable, "-m", "confcom.device_plugin", "--simulated", *where)
    with subprocess.Popen([*command, "--probe-address", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL) as plugin:
        try:
            while not probe_flood.answers(port, "/livez"):
                assert plugin.poll() is None
                time.sleep(0.05)
            with probe_flood.flooding(generator, port, SECONDS, Flood("ask", "/inventory", 33, 1000)):
                seen = probe_flood.observe(port, SECONDS, timeouts={"/livez": 50.0})
        finally:
            plugin.kill()
    assert seen.probes
    assert not seen.failures
