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

from confcom.playground.api.client import NodeClient
from confcom.playground.api.views import Phase
from confcom.playground.manifests.examples_folder import examples_folder

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
    "moment",
    [*((step, signal.SIGINT) for step in range(1, 7)), (2, signal.SIGTERM), (6, signal.SIGTERM), (4, signal.SIGHUP)],
)
def test_ended_in_a_step_it_leaves_nothing(demo_in_short_folder, short_folder, tmp_path, traces_of, moment):
    (step, number), process = moment, demo_in_short_folder
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


def test_a_folder_in_use_is_refused(demo_process, short_folder):
    short_folder.mkdir()
    (short_folder / "precious").write_text("mine")
    process = demo_process("--dir", str(short_folder))
    _, err = process.communicate()
    assert process.returncode == 2
    assert "is not empty" in err
    assert (short_folder / "precious").read_text() == "mine"


def test_a_step_that_fails_is_named_and_the_exit_is_1(monkeypatch):
    from click.testing import CliRunner

    from confcom.cli.group import cli
    from confcom.playground.demo import story
    from confcom.playground.demo.report import StepError

    def broken(context, notes):
        raise StepError("the machine is on fire", why="a test said so", remedy="call somebody")

    monkeypatch.setattr(story, "STEPS", (story.Step("A broken step", broken),))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        result = CliRunner().invoke(cli, ["demo"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert result.exit_code == 1
    assert "Error in step 1 (A broken step): the machine is on fire" in result.output
    assert "call somebody" in result.output


def gone(folder, traces_of):
    """Waits until a demo that could not clean up has been cleaned up after."""
    deadline = time.monotonic() + 30
    while traces_of(folder) != NOTHING and time.monotonic() < deadline:
        time.sleep(0.05)
    return traces_of(folder) == NOTHING


def test_killed_outright_it_leaves_nothing_either(demo_process, short_folder, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder))
    read_until(process, r"^Everything stays up")
    with NodeClient(short_folder) as node:
        node.apply((examples_folder() / "job-holding.yaml").read_text().replace("sgx-holding", "left-alone"))
        node.wait(lambda state: any(pod.phase is Phase.RUNNING for pod in state.pods_of("left-alone")), 20)
    process.kill()
    process.wait()
    assert gone(short_folder, traces_of)


def test_killed_outright_in_a_step(demo_process, short_folder, traces_of):
    process = demo_process("--dir", str(short_folder))
    read_until(process, r"^4\. ")
    process.kill()
    process.wait()
    assert gone(short_folder, traces_of)


def test_a_folder_of_the_users_is_emptied_and_kept(demo_process, short_folder):
    short_folder.mkdir(mode=0o700)
    process = demo_process("--dir", str(short_folder))
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert list(short_folder.iterdir()) == []
    assert short_folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("folder", "words"),
    [("/dev/null", "cannot be the demo's folder"), ("/proc/x", "cannot be"), ("/tmp/" + "x" * 60, "is too long")],
)
def test_a_folder_that_cannot_be(demo_process, folder, words):
    process = demo_process("--dir", folder)
    out, err = process.communicate()
    assert process.returncode == 2
    assert words in err
    assert "1. A simulated SGX platform" not in out
    assert "Traceback" not in err


def test_keep_notices_that_a_daemon_died(demo_process, short_folder, traces_of):
    process = demo_process("--keep", "--dir", str(short_folder))
    read_until(process, r"confcom verify mine\.bin")
    (helper,) = [pid for pid, command in traces_of(short_folder)["processes"] if b"quote-helper" in command]
    os.kill(helper, signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "quote-helper ended" in err
    assert traces_of(short_folder) == NOTHING


def test_nothing_is_imported_from_the_current_directory(demo_process, tmp_path):
    for name in ("secrets.py", "json.py", "base64.py"):
        (tmp_path / name).write_text("raise RuntimeError('a file of the current directory was imported')")
    command = str(Path(sys.executable).with_name("confcom"))
    done = subprocess.run([command, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_step_that_takes_long_says_so(monkeypatch):
    from click.testing import CliRunner

    from confcom.cli.commands import demo
    from confcom.cli.group import cli
    from confcom.playground.demo import story

    monkeypatch.setattr(demo, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(story, "STEPS", (story.Step("A slow step", lambda *_: time.sleep(0.5)),))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        result = CliRunner().invoke(cli, ["demo"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "still at it after" in result.output
