"""`confcom demo` as a person meets it: text, JSON, Ctrl-C, two at once, --keep."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from confcom.cli.commands.local import demo
from confcom.cli.group import cli
from confcom.playground.api.client import NodeClient
from confcom.playground.api.views import Phase
from confcom.playground.demo import sequence
from confcom.playground.demo.commands import StepError
from confcom.playground.demo.context import examples_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NOTHING = {"folder": False, "processes": [], "mounts": []}


MADE_IN_STEP = {
    1: "logs",
    2: "logs/node.log",
    3: "job.yaml",
    4: "logs/sgx-test-*.log",
    5: "q.bin",
    6: "job-holding.yaml",
}
"""What is in the demo's folder once a step is under way."""


def until(there, process=None, seconds=30):
    """Wait until something is there, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := there()):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def reach(process, folder, step):
    until(lambda: list(folder.glob(MADE_IN_STEP[step])), process)


def kept(process):
    """The report of a demo that stays up."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            return json.loads("".join(lines))
    raise AssertionError("".join(lines) + process.stderr.read())


def test_json_has_every_step(demo_process):
    process = demo_process("--output", "json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["ok"] is True
    assert [step["number"] for step in report["steps"]] == [1, 2, 3, 4, 5, 6]
    assert all(step["ok"] and step["seconds"] > 0 and step["commands"] for step in report["steps"])
    assert report["steps"][2]["data"]["allocated_mib"] == 10
    assert report["steps"][4]["data"]["verified"]["platform"] == "simulated"
    assert not Path(report["folder"]).exists()


def test_two_at_once(demo_process):
    both = [demo_process("--output", "json") for _ in range(2)]
    reports = [json.loads(process.communicate()[0]) for process in both]
    assert [report["steps"][-1]["error"] for report in reports] == [None, None]
    assert [report["ok"] for report in reports] == [True, True]
    roots = {report["steps"][0]["data"]["root_sha256"] for report in reports}
    assert len(roots) == 2


@pytest.mark.parametrize(
    "moment",
    [*((step, signal.SIGINT) for step in range(1, 7)), (2, signal.SIGTERM), (6, signal.SIGTERM), (4, signal.SIGHUP)],
)
def test_ended_in_a_step_it_leaves_nothing(demo_in_short_folder, short_folder, tmp_path, traces_of, moment):
    (step, number), process = moment, demo_in_short_folder
    reach(process, short_folder, step)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, out + err
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in out + err
    assert traces_of(short_folder) == NOTHING


def test_what_keep_advises_works(play, tmp_path):
    verdicts = []

    def follow(context):
        advice = demo._advice(context).splitlines()
        first = next(number for number, line in enumerate(advice) if "AesmClient" in line)
        program = "\n".join(line.strip() for line in advice[first : first + 6])
        subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
        (verify,) = (line.split()[1:] for line in advice if line.strip().startswith("confcom verify"))
        command = [sys.executable, "-m", "confcom", *verify, "--output", "json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
        verdicts.append(json.loads(done.stdout)["kind"])

    assert play(after=(6, follow)).ok
    assert verdicts == ["authentic-not-authorised"]


def test_a_kept_demo_is_up_until_ctrl_c(demo_process, short_folder, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder), "--output", "json")
    assert kept(process)["ok"]
    with NodeClient(short_folder) as node:
        assert node.state().jobs
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert traces_of(short_folder) == NOTHING


def test_a_folder_in_use_is_refused(demo_process, short_folder):
    short_folder.mkdir()
    (short_folder / "precious").write_text("mine")
    process = demo_process("--dir", str(short_folder), "--output", "json")
    out, _ = process.communicate()
    assert (process.returncode, json.loads(out)["error"]["code"]) == (2, "folder-not-empty")
    assert (short_folder / "precious").read_text() == "mine"


def test_a_step_that_fails_is_named_and_the_exit_is_1(monkeypatch, signal_handlers):
    def broken(context, notes):
        raise StepError("the machine is on fire", why="a test said so", remedy="call somebody")

    monkeypatch.setattr(sequence, "STEPS", (sequence.Step("A broken step", broken),))
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 1
    for part in ("1 (A broken step)", "the machine is on fire", "a test said so", "call somebody"):
        assert part in result.output


def test_killed_outright_it_leaves_nothing_either(demo_process, short_folder, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder), "--output", "json")
    assert kept(process)["ok"]
    with NodeClient(short_folder) as node:
        node.apply((examples_folder() / "job-holding.yaml").read_text().replace("sgx-holding", "left-alone"))
        node.wait(lambda state: any(pod.phase is Phase.RUNNING for pod in state.pods_of("left-alone")), 20)
    process.kill()
    process.wait()
    until(lambda: traces_of(short_folder) == NOTHING)


def test_killed_outright_in_a_step(demo_process, short_folder, traces_of):
    process = demo_process("--dir", str(short_folder))
    reach(process, short_folder, 4)
    process.kill()
    process.wait()
    until(lambda: traces_of(short_folder) == NOTHING)


def test_a_folder_of_the_users_is_emptied_and_kept(demo_process, short_folder):
    short_folder.mkdir(mode=0o700)
    process = demo_process("--dir", str(short_folder))
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert list(short_folder.iterdir()) == []
    assert short_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("/dev/null", "folder-not-usable"),
        ("/proc/x", "folder-not-usable"),
        ("/tmp/" + "x" * 60, "directory-name-too-long"),
    ],
)
def test_a_folder_that_cannot_be(demo_process, folder, code):
    process = demo_process("--dir", folder, "--output", "json")
    out, err = process.communicate()
    assert (process.returncode, json.loads(out)["error"]["code"]) == (2, code)
    assert "Traceback" not in err


def test_keep_notices_that_a_daemon_died(demo_process, short_folder, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder), "--output", "json")
    assert kept(process)["ok"]
    (helper,) = [pid for pid, command in traces_of(short_folder)["processes"] if b"quote-helper" in command]
    os.kill(helper, signal.SIGKILL)
    out, _ = process.communicate(timeout=30)
    error = json.loads(out)["error"]
    assert (process.returncode, error["code"]) == (1, "process-ended")
    assert "quote-helper" in error["what"]
    assert traces_of(short_folder) == NOTHING


def test_nothing_is_imported_from_the_current_directory(demo_process, tmp_path):
    for name in ("secrets.py", "json.py", "base64.py"):
        (tmp_path / name).write_text("raise RuntimeError('a file of the current directory was imported')")
    command = str(Path(sys.executable).with_name("confcom"))
    done = subprocess.run([command, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_step_that_takes_long_says_so(monkeypatch, signal_handlers):
    monkeypatch.setattr(demo, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(sequence, "STEPS", (sequence.Step("A slow step", lambda *_: time.sleep(0.5)),))
    result = CliRunner().invoke(cli, ["demo"])
    assert result.output.count("0 s\n") > 1
