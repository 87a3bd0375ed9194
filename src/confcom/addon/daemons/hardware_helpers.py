"""The quote helpers of hardware nodes: what makes their quotes, and what everybody must know about these. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from confcom.addon.model.chart_objects import Component, component_of, flag_of, simulates
from confcom.kubernetes.objects import KubernetesObject, name_of


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is true of a working add-on and must be known."""

    text: str
    code: str = field(kw_only=True)
    """Names the subject, for programs."""

    def to_json(self) -> dict[str, str]:
        """Return the object for `--output json`."""
        return {"code": self.code, "note": self.text}


@dataclass(frozen=True, slots=True)
class HardwareHelpers:
    """The quote helpers of one DaemonSet for hardware nodes."""

    daemon_set: str
    provider: str
    """What makes the quotes: `aesmd`."""
    test_root: bool
    """Whether the helpers relay quotes of a root for tests."""

    def to_json(self) -> dict[str, object]:
        """Return the object for `--output json`."""
        return {"daemon_set": self.daemon_set, "provider": self.provider, "test_root": self.test_root}


def hardware_helpers(daemons: Sequence[KubernetesObject]) -> tuple[HardwareHelpers, ...]:
    """Return the quote helpers of hardware nodes, from the add-on's DaemonSets."""
    return tuple(
        HardwareHelpers(name_of(one), provider, bool(flag_of(one, "--expected-root")))
        for one in daemons
        if component_of(one) is Component.QUOTE_HELPER
        and not simulates(one)
        and (provider := flag_of(one, "--provider"))
    )


def notes_on(helpers: Sequence[HardwareHelpers]) -> Iterator[Note]:
    """Yield what must be known of the quotes of hardware nodes."""
    if any(one.test_root for one in helpers):
        yield Note(
            "TEST ROOT: quotes of hardware nodes end in a root for tests (quoteHelper.expectedRoot), and are never "
            "genuine",
            code="test-root",
        )
    if helpers:
        yield Note(
            "quotes of hardware nodes were never run on SGX hardware: please send the output of "
            "`confcom hardware-report` (docs/reference/hardware-report.md)",
            code="never-run-on-sgx-hardware",
        )
