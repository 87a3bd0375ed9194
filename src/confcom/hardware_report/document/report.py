"""The report as data: sections with fields, findings, and its JSON. Secrets are removed when it is made. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confcom.hardware_report.document.meanings import SECTIONS
from confcom.hardware_report.document.redaction import Scrubber, Secrets, Value

FORMAT = "confcom-hardware-report/1"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is missing or wrong, and what the node's owner can do about it."""

    code: str
    what: str
    do: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """What was collected about one subject."""

    key: str
    """In `meanings.SECTIONS`, which has its title and what each field means."""
    values: Mapping[str, Value]
    findings: tuple[Finding, ...] = ()
    secrets: Secrets = field(default=Secrets(), repr=False)
    """What must not be in any part of the report."""


@dataclass(frozen=True, slots=True)
class HardwareReport:
    """A report without secrets."""

    sections: tuple[Section, ...]

    @classmethod
    def of(cls, sections: Iterable[Section]) -> HardwareReport:
        """Make a report of sections: the secrets of each are removed from all."""
        collected = tuple(sections)
        scrubber = Scrubber(Secrets.union(section.secrets for section in collected))
        return cls(tuple(_scrubbed(section, scrubber) for section in collected))

    @property
    def findings(self) -> tuple[tuple[str, Finding], ...]:
        """All findings, each with its section's key."""
        return tuple((section.key, finding) for section in self.sections for finding in section.findings)

    def to_json(self) -> dict[str, object]:
        """Return plain values for `json.dumps`."""
        return {
            "format": FORMAT,
            "sections": {section.key: _fields(section) for section in self.sections},
            "findings": [
                {"code": finding.code, "section": key, "what": finding.what, "do": finding.do}
                for key, finding in self.findings
            ],
        }


def _fields(section: Section) -> dict[str, object]:
    meanings = SECTIONS[section.key].fields
    return {key: {"value": value, "meaning": meanings[key]} for key, value in section.values.items()}


def _scrubbed(section: Section, scrubber: Scrubber) -> Section:
    values = {key: scrubber.value(value) for key, value in section.values.items()}
    findings = tuple(
        Finding(finding.code, scrubber.text(finding.what), scrubber.text(finding.do)) for finding in section.findings
    )
    return Section(section.key, values, findings)
