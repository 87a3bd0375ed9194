from xml.etree import ElementTree as ET

import pytest

from confcom.cluster_test.outcome import Cause, NodeResult
from confcom.cluster_test.report import Report, junit, node_line, text_lines

GOOD = NodeResult("worker-1", True, True, True, 7.4, verified=True)
PENDING = NodeResult("worker-2", True, False, cause=Cause("pod-pending", "1 Insufficient epc", "look"))
SOCKET = NodeResult("worker-3", True, True, True, cause=Cause("no-socket", "no socket"))
ENDS = NodeResult("worker-4", True, True, True, 7.0, verified=True, cause=Cause("certificate-ends", "soon"))
BARE = NodeResult("worker-5", False, True, True, cause=Cause("no-enclave-program", "none"), accepted=True)


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
    assert next(iter(report.to_json())) == "schema"


def test_short_text_has_failures_only_and_equal_causes_once():
    again = NodeResult("worker-6", True, False, cause=PENDING.cause)
    lines = list(text_lines(Report((GOOD, PENDING, SOCKET, again), 1.0), short=True))
    assert not any("worker-1" in line for line in lines)
    (shared,) = [line for line in lines if "1 Insufficient epc" in line]
    assert "worker-2" in shared
    assert "worker-6" in shared


def test_junit_has_a_case_for_each_node():
    hostile = NodeResult('a<"&\x00', True, cause=Cause("pod-pending", "<b>\\x1b"))
    suite = ET.fromstring(junit(Report((GOOD, PENDING, BARE, hostile), 2.0)))
    assert (suite.get("tests"), suite.get("failures")) == ("4", "2")
    failures = [case.find("failure") for case in suite]
    assert [one.get("type") if one is not None else None for one in failures] == [
        None,
        "pod-pending",
        None,
        "pod-pending",
    ]
