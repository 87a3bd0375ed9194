from xml.etree import ElementTree as ET

import pytest

from confcom.node_test.outcome import Cause, NodeResult
from confcom.node_test.report import Report, end_lines, junit, node_line

GOOD = NodeResult("worker-1", True, True, True, 7.4, verified=True)
PENDING = NodeResult("worker-2", True, False, cause=Cause("1 Insufficient epc", "look", code="pod-pending"))
SOCKET = NodeResult("worker-3", True, True, True, cause=Cause("no socket", code="no-socket"))
ENDS = NodeResult("worker-4", True, True, True, 7.0, verified=True, cause=Cause("soon", code="certificate-ends"))
BARE = NodeResult("worker-5", False, True, True, cause=Cause("none", code="no-enclave-program"), accepted=True)


@pytest.mark.parametrize(
    ("result", "words", "passed"),
    [
        (GOOD, ["EPC ok", "device ok", "quote 7 ms", "VERIFIED (simulated)"], True),
        (PENDING, ["EPC FAILED", "device -", "quote -", "NOT VERIFIED", "pod-pending"], False),
        (SOCKET, ["device ok", "NOT VERIFIED", "no-socket"], False),
        (ENDS, ["quote 7 ms", "certificate-ends"], False),
        (BARE, ["NOT VERIFIED", "no-enclave-program"], True),
    ],
)
def test_the_line_of_a_node(result, words, passed):
    assert result.passed is passed
    assert [word for word in [result.node, *words] if word not in node_line(result)] == []


@pytest.mark.parametrize(
    ("results", "exit_code"), [((GOOD,), 0), ((GOOD, BARE), 0), ((GOOD, PENDING), 8), ((ENDS,), 8), ((), 8)]
)
def test_the_exit_code_is_of_the_worst_node(results, exit_code):
    report = Report(results, 1.0)
    assert report.exit_code == exit_code
    assert report.to_json()["ok"] is (exit_code == 0)


def test_equal_causes_have_one_line():
    again = NodeResult("worker-6", True, False, cause=PENDING.cause)
    (shared,) = [line for line in end_lines(Report((GOOD, PENDING, SOCKET, again), 1.0)) if "Insufficient" in line]
    assert "worker-2" in shared
    assert "worker-6" in shared


def test_junit_has_a_case_for_each_node():
    hostile = NodeResult('a<"&\x00', True, cause=Cause("<b>\\x1b", code="pod-pending"))
    suite = ET.fromstring(junit(Report((GOOD, PENDING, BARE, hostile), 2.0)))
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    failures = [case.find("failure") for case in suite]
    assert [one.get("type") if one is not None else None for one in failures] == [
        None,
        "pod-pending",
        None,
        "pod-pending",
    ]
