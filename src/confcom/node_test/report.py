"""The results of a test as lines for people, as JSON, and as JUnit's XML. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree as ET  # only writes

from confcom.addon.problems import shown
from confcom.errors import ExitCode, printable
from confcom.node_test.outcome import Cause, NodeResult

JUNIT_NAME = "confcom test"
_WORDS = {True: "ok", False: "FAILED", None: "-"}


@dataclass(frozen=True, slots=True)
class Report:
    """The results of one run, in the order in which the nodes were chosen."""

    results: tuple[NodeResult, ...]
    seconds: float

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        return tuple(one for one in self.results if not one.passed)

    @property
    def exit_code(self) -> ExitCode:
        return ExitCode.NOT_READY if self.failed or not self.results else ExitCode.OK

    def to_json(self) -> dict[str, object]:
        counts = {"nodes": len(self.results), "failed": len(self.failed)}
        head = {"ok": self.exit_code == ExitCode.OK, **counts, "seconds": round(self.seconds, 1)}
        return head | {"results": [one.to_json() for one in self.results]}


def node_line(result: NodeResult) -> str:
    """Return the line of one node, such as `worker-1  EPC ok  device ok  quote 7 ms  VERIFIED (simulated)`."""
    none = "ok" if result.verified else "-"
    quote = f"quote {none if result.quote_ms is None else f'{result.quote_ms:.0f} ms'}"
    platform = "simulated" if result.simulated else "hardware"
    end = f"VERIFIED ({platform})"
    if result.cause:
        end = f"{'VERIFIED, but' if result.verified else 'NOT VERIFIED:'} {result.cause.code}"
    parts = (result.node, f"EPC {_WORDS[result.epc]}", f"device {_WORDS[result.device]}", quote, end)
    return printable("  ".join(parts))


def end_lines(report: Report) -> Iterator[str]:
    """Yield the table of failures, in which equal causes stand once, and a summary."""
    nodes: dict[Cause, list[str]] = {}
    for one in report.failed:
        if one.cause:
            nodes.setdefault(one.cause, []).append(one.node)
    for cause, names in nodes.items():
        yield printable(f"{cause.code} on {shown(names)}: {cause.what}")
        if cause.remedy:
            yield printable(f"  do: {cause.remedy}")
    yield f"{len(report.results) - len(report.failed)} of {len(report.results)} nodes passed in {report.seconds:.1f} s"


def junit(report: Report) -> bytes:
    """Return the results as an XML document in UTF-8, with one test case for each node."""
    counts = {"tests": str(len(report.results)), "failures": str(len(report.failed)), "time": f"{report.seconds:.1f}"}
    suite = ET.Element("testsuite", {"name": JUNIT_NAME, **counts})
    for one in report.results:
        case = ET.SubElement(suite, "testcase", {"classname": JUNIT_NAME, "name": printable(one.node)})
        if not one.passed and one.cause:
            failed = ET.SubElement(case, "failure", {"type": one.cause.code, "message": one.cause.what})
            failed.text = one.cause.remedy
    document: bytes = ET.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document
