"""The chart renders the checked-in files; `python -m testkit.chart_golden` writes new ones."""

import difflib

import pytest

from testkit.chart_golden import CHART, FOLDER, NOTES, SETS, notes, render, run_helm

REFRESH = "if this is meant: python -m testkit.chart_golden"


def differences(path, now):
    before, after = path.read_text().splitlines(), now.splitlines()
    return "\n".join(difflib.unified_diff(before, after, path.name, "now", lineterm=""))


@pytest.mark.parametrize("name", SETS)
def test_manifests(helm_program, name):
    found = differences(FOLDER / f"{name}.yaml", render(helm_program, SETS[name]))
    assert not found, f"{REFRESH}\n{found}"


@pytest.mark.parametrize("name", NOTES)
def test_notes(helm_program, name):
    found = differences(FOLDER / f"{name}.txt", notes(helm_program, SETS[name]))
    assert not found, f"{REFRESH}\n{found}"


@pytest.mark.parametrize("name", ["simulated", "daemon-options", "placement", "hardware-collateral", "beside-hardware"])
def test_helm_lint(helm_program, name):
    done = run_helm(helm_program, SETS[name], "lint", CHART, "--strict")
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
