import json
import os
import signal
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from confcom.demo import story
from confcom.demo.processes import StepError
from testkit.conditions import wait_until
from testkit.programs import run_confcom
from tests.demo.conftest import NOTHING, folder_of, traces_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

MADE_IN_STEP = {
    1: "platform",
    2: "logs/device-plugin.log",
    3: "pods/sgx-test-1",
    4: "logs/sgx-test-1.log",
    5: "q.bin",
    6: "pods/sgx-holding-2",
}
"""File or folder in the demo's folder, keyed by step; when it exists, the step has begun."""


def reach(process, step):
    """Wait until a step has begun, and return the demo's folder."""
    folder = folder_of(process)
    made = folder / MADE_IN_STEP[step]
    wait_until(lambda: made.exists() or process.poll() is not None)
    assert made.exists(), process.communicate()
    return folder


def test_two_at_once_and_nothing_of_the_current_directory(demo_process, tmp_path):
    for name in ("secrets.py", "json.py", "base64.py"):
        (tmp_path / name).write_text("raise RuntimeError('a file of the current directory was imported')")
    both = [demo_process("--output", "json", cwd=tmp_path) for _ in range(2)]
    ended = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    reports = [json.loads(out) for out, _ in ended]
    for report in reports:
        assert report["ok"] is True
        assert [step["number"] for step in report["steps"]] == [1, 2, 3, 4, 5, 6]
        assert all(step["ok"] and step["seconds"] > 0 and step["commands"] for step in report["steps"])
        assert report["steps"][2]["data"]["allocated_mib"] == 10
        assert report["steps"][4]["data"]["verified"]["platform"] == "simulated"
        assert not Path(report["folder"]).exists()
    assert len({report["steps"][0]["data"]["root_sha256"] for report in reports}) == 2


INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("step", "numbers"), [(1, [INT]), (2, [TERM]), (3, [INT]), (4, [HUP]), (5, [INT]), (6, [TERM, INT, HUP])]
)
def test_ended_in_a_step_it_leaves_nothing(holding_demo, tmp_path, step, numbers):
    """Signals that arrive during the cleanup do not disturb the cleanup."""
    folder = reach(holding_demo, step)
    for number in numbers:
        os.killpg(holding_demo.pid, number)
    out, err = holding_demo.communicate(timeout=30)
    # The kernel chooses which pending signal it delivers first.
    assert holding_demo.returncode - 128 in numbers, out + err
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in out + err
    assert traces_of(folder) == NOTHING


def test_after_nohup_a_hang_up_is_ignored(demo_process):
    process = demo_process(command=("nohup",))
    reach(process, 2)
    os.killpg(process.pid, signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err


def test_a_step_that_fails_is_named_and_the_exit_is_1(monkeypatch):
    error = StepError("the machine is on fire", why="a test said so", remedy="call somebody")
    monkeypatch.setattr(story, "STEPS", {"A broken step": AsyncMock(side_effect=error)})
    result = run_confcom("demo")
    assert result.exit_code == 1
    for part in ("1 (A broken step)", "the machine is on fire", "a test said so", "call somebody"):
        assert part in result.output


def test_killed_outright_it_leaves_nothing_either(holding_demo):
    folder = reach(holding_demo, 4)
    holding_demo.kill()
    holding_demo.wait()
    wait_until(lambda: traces_of(folder) == NOTHING)
