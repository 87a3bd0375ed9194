"""The pure parts of the benchmark of the hardware providers, and one tiny run of it."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from bench.hardware.dcap import DcapPlan, DcapResults
from bench.hardware.relay import MISBEHAVIOUR, RelayPlan, RelayResults, RelayTally, prepare_header
from bench.hardware.table import hardware_as_json, hardware_as_table
from bench.servers import aesmd
from bench.summary import Latency, Spread
from bench.table import goal
from confcom.aesm.session import ServerSession
from testkit.programs import run_python

ROOT = Path(__file__).parent.parent.parent


def relayed(added, rate):
    direct = RelayTally(medians=[0.0025, 0.003], rates=[400.0, 300.0], latencies=[0.0025])
    ours = RelayTally([median + added for median in direct.medians], [rate * each for each in direct.rates], [0.003])
    passed = RelayTally([median + 0.0001 for median in direct.medians])
    return RelayResults(
        RelayPlan(), direct, ours, passed, {"beside a peer that floods": Latency(1, 0.1, 0.2, 0.3)}, verified=7
    )


def by_child(hop, replaced):
    direct = [0.0013, 0.0014]
    return DcapResults(DcapPlan(), direct, [one + hop for one in direct], [one + 2 * hop for one in direct], replaced)


def test_what_is_added_is_the_median_of_the_rounds_differences():
    assert relayed(0.0002, 1.0).added.median == pytest.approx(0.0002)
    assert relayed(0.0002, 1.0).floor.median == pytest.approx(0.0001)
    assert relayed(0.0003, 1.0).above_floor.median == pytest.approx(0.0002)
    assert relayed(0.0002, 0.5).throughput == Spread(0.5, 0.5, 0.5)
    assert by_child(0.0001, Spread(0, 0, 0)).whole.median == pytest.approx(0.0002)


def test_goals_are_told():
    met = hardware_as_table(relayed(0.0002, 0.96), by_child(0.0001, Spread(0.1, 0.1, 0.1)))
    missed = hardware_as_table(relayed(0.0004, 0.94), by_child(0.0003, Spread(0.4, 0.1, 0.5)))
    assert (met.count(": met"), missed.count(": MISSED")) == (4, 4)
    assert "no C compiler" in hardware_as_table(relayed(0, 1), None)
    assert hardware_as_json(relayed(0, 1), None)["dcap"] is None


def test_a_goal_is_a_bound_from_above_or_from_below():
    assert goal(1, 1, "") == goal(1, 1, "", least=True) == "goal 1: met"
    assert "MISSED" in goal(2, 1, "")
    assert "MISSED" in goal(0, 1, "", least=True)


def test_a_header_alone_is_no_request():
    session = ServerSession()
    assert session.receive(prepare_header()) is None
    assert session.started


def test_a_header_alone_blocks_the_stand_in_as_it_blocks_aesmd(short_dir):
    """Else nothing would be shown by the relay's not being blocked."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(prepare_header())
        theirs.settimeout(0.05)
        with pytest.raises(TimeoutError):
            aesmd.serve_one(theirs, None)


@pytest.mark.slow
def test_a_tiny_run(tmp_path):
    output = tmp_path / "out.json"
    few = ["--only", "hardware", "--hardware-rounds", 1, "--hardware-quotes", 20]
    done = run_python("-m", "bench", *few, "--output", output, cwd=ROOT, timeout=None)
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())["hardware"]
    assert results["relay"]["direct"]["medians"][0] >= aesmd.CALL_SECONDS
    assert len(results["relay"]["relayed"]["rates"]) == 1
    assert results["relay"]["passed"]["medians"][0] >= aesmd.CALL_SECONDS
    assert set(results["relay"]["beside"]) == (set(MISBEHAVIOUR) if os.geteuid() == 0 else set())
    assert (results["dcap"] is None) == (shutil.which("cc") is None)
    assert "the relay adds to the median" in done.stdout
