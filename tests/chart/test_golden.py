"""The chart renders exactly the checked-in files; `python -m testkit.chart_golden` writes new files."""

import difflib
import re

import pytest

from testkit.chart_golden import CHART, FOLDER, NOTES, SETS, notes, render, run_helm


@pytest.mark.parametrize(
    ("make", "file"), [*((render, f"{one}.yaml") for one in SETS), *((notes, f"{one}.txt") for one in NOTES)]
)
def test_manifests_and_notes(helm_program, make, file):
    now = make(helm_program, SETS[file.rpartition(".")[0]]).splitlines()
    before = (FOLDER / file).read_text().splitlines()
    found = "\n".join(difflib.unified_diff(before, now, file, "now", lineterm=""))
    assert not found, f"if this is meant: python -m testkit.chart_golden\n{found}"


@pytest.mark.parametrize("name", ["simulated", "daemon-options", "placement", "hardware-collateral", "beside-hardware"])
def test_helm_lint(helm_program, name):
    done = run_helm(helm_program, SETS[name], "lint", CHART, "--strict")
    assert done.returncode == 0, done.stdout
    assert not re.search(r"\[(INFO|WARNING|ERROR)\]", done.stdout), done.stdout
