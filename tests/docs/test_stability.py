"""What docs/reference/stability.md promises is there, and nothing that programs import lacks a promise."""

import importlib
import re

from confcom.cli.output_option import JSON_SCHEMA
from confcom.errors import ExitCode
from testkit.documentation import text_of

PAGE = text_of("docs/reference/stability.md")
CELLS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
ROWS = {row[0].strip("`"): row[1:] for row in CELLS}


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def test_each_module_of_the_interface_is_stable_or_experimental():
    generated = re.findall(r"^<!-- (confcom\S*): made by", text_of("docs/reference/python.md"), re.MULTILINE)
    assert {name for name in ROWS if name.startswith("confcom.")} == set(generated)
    for module in generated:
        stability, names = ROWS[module]
        assert stability in {"stable", "experimental"}
        assert set(quoted(names)) <= set(importlib.import_module(module).__all__)


def test_other_names_are_on_their_pages():
    assert quoted(ROWS["JSON"][1]) == ["schema"]
    assert f"`schema` {JSON_SCHEMA}:" in ROWS["JSON"][1]
    assert {int(number) for number in re.findall(r"\d+", ROWS["exit codes"][1])} == set(ExitCode)
    (metric,) = quoted(ROWS["metrics"][2])
    assert f"| `{metric}` |" in text_of("docs/reference/quote-helper.md")
    (prefix,) = quoted(ROWS["codes"][2])
    assert f"`{prefix}" in text_of("docs/reference/codes.md")
    values = quoted(PAGE.partition("Experimental values:")[2].partition("\n\n")[0])
    assert len(values) > 1
    chart = text_of("docs/reference/chart.md")
    assert [name for name in values if f"| `{name}` |" not in chart and f"| `{name}." not in chart] == []
