import ast
import re
from pathlib import Path

import pytest

from confcom.errors import ConfcomError, SettingsError, as_data

SOURCE = Path(__file__).parents[2] / "src" / "confcom"
WELL_FORMED = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
GENERIC = {"ConfcomError", "MalformedError", "SettingsError", "UnavailableError", "OutputError"}
"""Error classes that fix only the exit code. Each place that raises such an error gives the error's code."""


@pytest.fixture(scope="module")
def calls():
    files = {path.relative_to(SOURCE): ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
    return [(file, node) for file, tree in files.items() for node in ast.walk(tree) if isinstance(node, ast.Call)]


def test_every_error_of_a_general_class_has_its_own_code(calls):
    without = [
        f"{path}:{call.lineno}"
        for path, call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id in GENERIC
        and "error_code" not in {keyword.arg for keyword in call.keywords}
    ]
    assert without == []


def test_codes_are_words_with_hyphens(calls):
    given = {
        keyword.value.value
        for _, call in calls
        for keyword in call.keywords
        if keyword.arg == "error_code" and isinstance(keyword.value, ast.Constant)
    }
    assert [one for one in given if not WELL_FORMED.fullmatch(one)] == []


def test_an_error_has_its_own_code_or_its_classs():
    assert SettingsError("both", error_code="both-given").error_code == "both-given"
    assert SettingsError("both").error_code == SettingsError.error_code != ConfcomError.error_code
    assert as_data(SettingsError("both", error_code="both-given"))["code"] == "both-given"
