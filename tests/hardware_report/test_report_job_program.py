"""What the Job of `confcom hardware-report --cluster` runs, and how its report is found in the log."""

import json
import subprocess
import sys

import pytest

from confcom.hardware_report.document.report import FORMAT
from confcom.hardware_report.document.report_json import find_document
from confcom.hardware_report.document.text import document_lines

FIELD = {"value": [{"a": 1}], "meaning": "what it is"}
FINDING = {"code": "c", "section": "new", "what": "w", "do": ""}
REPORT = {"format": FORMAT, "sections": {"new": {"field": FIELD}}, "findings": [FINDING]}


def test_it_prints_one_line_of_json_without_packages_of_the_command_line(node):
    block = "import sys\nfor name in ('click', 'rich', 'yaml', 'dcap_qvl'):\n    sys.modules[name] = None\n"
    program = f"{block}import runpy; runpy.run_module('confcom.hardware_report', run_name='__main__')"
    words = [sys.executable, "-c", program, f"--host-root={node.root}", "--timeout=1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert document == find_document(f"noise\n{done.stdout}noise at the end\n")
    assert document["sections"]["report"]["other_root"]["value"] is True
    assert document["sections"]["system"]["kernel"]["value"] == "6.8.0-45-generic"


def test_a_report_of_another_version_is_shown():
    lines = [*document_lines(find_document(json.dumps(REPORT)))]
    assert "new" in lines
    assert any("what it is" in line for line in lines)
    assert any(line.startswith("  c (new): w") for line in lines)


def test_the_last_report_counts():
    first = json.dumps(REPORT | {"findings": []})
    assert find_document(f"{first}\n{json.dumps(REPORT)}\n{{}}")["findings"] == [FINDING]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        json.dumps(REPORT | {"format": "other/1"}),
        json.dumps(REPORT | {"sections": []}),
        json.dumps(REPORT | {"sections": {"new": []}}),
        json.dumps(REPORT | {"sections": {"new": {"field": 1}}}),
        json.dumps(REPORT | {"sections": {"new": {"field": {"meaning": "no value"}}}}),
        json.dumps(REPORT | {"findings": {}}),
        json.dumps(REPORT | {"findings": [{"code": 1}]}),
    ],
)
def test_what_is_no_report_is_none(text):
    assert find_document(text) is None
