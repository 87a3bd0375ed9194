"""The page of promises names at least one existing test for each promise, and has the benchmarks' goals."""

import ast
import importlib
import re

import pytest

from testkit.documentation import ROOT

PAGE = (ROOT / "docs/contributing/promises.md").read_text()
PERFORMANCE = re.findall(r"^\| .+? \| (at .+?) \| `bench/(\w+)\.py`: (.+) \|$", PAGE, re.MULTILINE)
ROWS = dict(re.findall(r"^\| (?!promise |-)([^|]+?) \| (`[^|]+) \|$", PAGE, re.MULTILINE))
BENCHMARKS = ("admission", "controller", "helper", "plugin", "relay", "service", "status", "verification")


def names_in(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)}
    return {name for name in names if name.startswith(("test_", "Test"))}


def test_there_are_promises():
    assert len(ROWS) > 40


@pytest.mark.parametrize("promise", ROWS)
def test_each_promise_is_held_by_tests_that_exist(promise):
    named = re.findall(r"`([^`]+?)::(\w+)`", ROWS[promise])
    assert named
    assert re.sub(r"`[^`]+`", "", ROWS[promise]).strip(", ") == ""
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert name in names_in(ROOT / file), f"{file} has no {name}"


def test_each_goal_of_a_benchmark_is_a_promise():
    goals = {
        (name, title): f"at {'least' if goal.least else 'most'} {goal.bound:g} "
        for name in BENCHMARKS
        for title, goal in importlib.import_module(f"bench.{name}").GOALS.items()
    }
    rows = {(name, title): bound for bound, name, title in PERFORMANCE}
    assert set(rows) == set(goals)
    assert [row for row, bound in rows.items() if not bound.startswith(goals[row])] == []
