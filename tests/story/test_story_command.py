"""`confcom demo` as a person meets it: text, JSON, Ctrl-C, two at once, --keep."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

NOTHING = {"folder": False, "processes": [], "mounts": []}


def read_until(process, pattern):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    raise AssertionError(f"{pattern!r} never came: {''.join(lines)} {process.stderr.read()}")


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
    ("step", "number"),
    [*((step, signal.SIGINT) for step in range(1, 7)), (2, signal.SIGTERM), (6, signal.SIGTERM), (4, signal.SIGHUP)],
)
def test_ended_in_a_step_it_leaves_nothing(
    demo_process, demo_environment, short_folder, tmp_path, traces_of, step, number
):
    process = demo_process("--dir", str(short_folder), env=demo_environment | {"TMPDIR": str(tmp_path)})
    read_until(process, rf"^{step}\. ")
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, out + err
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in out + err
    assert traces_of(short_folder) == NOTHING


def test_keep_leaves_everything_up_and_its_advice_works(demo_process, short_folder, tmp_path, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder))
    told = "".join(read_until(process, r"confcom verify mine\.bin"))
    lines = told.splitlines()
    first = next(number for number, line in enumerate(lines) if "six lines of Python" in line)
    program = "\n".join(line.strip() for line in lines[first + 1 : first + 7])
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    verify = lines[-1].split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "confcom", *verify, "--output", "json"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout)["kind"] == "authentic-not-authorised", done
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert traces_of(short_folder) == NOTHING


def test_first_line_names_the_mode(demo_process):
    process = demo_process("--mode", "no-namespace")
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert "Mode: no-namespace" in first


def test_a_folder_in_use_is_refused(demo_process, tmp_path):
    (tmp_path / "precious").write_text("mine")
    process = demo_process("--dir", str(tmp_path))
    _, err = process.communicate()
    assert process.returncode == 2
    assert "is not empty" in err
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_step_that_fails_is_named_and_the_exit_is_1(monkeypatch):
    from click.testing import CliRunner

    from confcom.cli.group import cli
    from confcom.playground.story import story
    from confcom.playground.story.report import StepError

    def broken(scene, notes):
        raise StepError("the machine is on fire", why="a test said so", remedy="call somebody")

    monkeypatch.setattr(story, "STEPS", (story.Step("A broken step", broken),))
    previous = signal.getsignal(signal.SIGTERM)
    try:
        result = CliRunner().invoke(cli, ["demo"])
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert result.exit_code == 1
    assert "Error in step 1 (A broken step): the machine is on fire" in result.output
    assert "call somebody" in result.output


def test_killed_outright_its_containers_do_not_outlive_their_node(demo_process, short_folder, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder))
    read_until(process, r"^Everything stays up")
    pids = [pid for pid, _ in traces_of(short_folder)["processes"] if pid != process.pid]
    process.kill()
    process.wait()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while traces_of(short_folder)["processes"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces_of(short_folder)["processes"] == []
