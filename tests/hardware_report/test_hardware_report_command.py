import functools
import json
import subprocess
import sys

import pytest

from confcom.errors import ExitCode
from testkit.programs import run_confcom


@pytest.fixture
def confcom(node):
    words = ("hardware-report", "--host-root", node.root, "--socket", node.socket)
    return functools.partial(run_confcom, *words, catch_exceptions=False)


def test_json_and_text(confcom):
    done = confcom("-o", "json")
    report = json.loads(done.stdout)
    assert done.exit_code == ExitCode.OK
    assert report["format"] == "confcom-hardware-report/1"
    assert report["sections"]["kernel"]["kernel"] == "6.8.0-45-generic"
    assert report["sections"]["report"]["other_root"] is True
    assert report["sections"]["aesm"]["quote_size"] > 0
    assert "    kernel: 6.8.0-45-generic\n" in confcom().stdout


@pytest.mark.parametrize("wrong", [["--timeout", "9"], ["--cluster"], ["--host-root", ""], ["-o", "yaml"]])
def test_mistakes_in_the_command_line(confcom, wrong):
    assert confcom(*wrong).exit_code == ExitCode.USAGE


def test_as_a_program_it_prints_json(node):
    command = [sys.executable, "-m", "confcom.hardware_report", "--host-root", str(node.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    sections = json.loads(done.stdout)["sections"]
    assert sections["kernel"]["kernel"] == "6.8.0-45-generic"
    assert sections["report"]["other_root"] is True


def test_this_machine_has_a_report_whatever_it_is(tmp_path):
    words = ("hardware-report", "-o", "json", "--socket", tmp_path / "aesm.socket")
    done = run_confcom(*words, catch_exceptions=False)
    assert done.exit_code == ExitCode.OK
    sections = json.loads(done.stdout)["sections"]
    assert sections["aesm"]["calls"][0]["outcome"] == "no-socket"
    assert sections["report"]["other_root"] is False
    assert not [name for name, facts in sections.items() if "failed" in facts]
