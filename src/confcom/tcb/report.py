"""Which machines are UpToDate, as lines for people and as JSON, and the exit code. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from confcom.addon.problems import shown
from confcom.errors import ExitCode, as_data, printable
from confcom.tcb.groups import Group
from confcom.tcb.judgement import END_OF_SERVICING, Judgement, Machine
from confcom.verify.verdict import utc_text


@dataclass(frozen=True, slots=True)
class Report:
    groups: tuple[Group, ...]
    failed: tuple[Machine, ...]
    """Machines of which no SVNs are known, or whose quote is not authentic."""
    now: datetime
    early: bool
    """Whether a machine must be UpToDate by the early set too."""
    fail_within: timedelta

    @property
    def exit_code(self) -> ExitCode:
        """The lowest of all failures' codes, else NOT_READY if a group is not UpToDate or something ends soon."""
        judged: tuple[Group | Machine, ...] = (*self.groups, *self.failed)
        failures = [one.failure for one in judged if one.failure]
        bad = any(not self._passed(group) for group in self.groups) or not self.groups
        return min([one.exit_code for one in failures] or [ExitCode.NOT_READY if bad else ExitCode.OK])

    def _passed(self, group: Group) -> bool:
        return group.up_to_date(early=self.early) and not self._soon(group)

    def _soon(self, group: Group) -> list[datetime]:
        return sorted({end for end in group.ends() if end - self.now <= self.fail_within})

    def to_json(self) -> dict[str, object]:
        groups = [self._group_json(group) for group in self.groups]
        failed = [{"name": one.name, "error": as_data(one.failure)} for one in self.failed if one.failure]
        return {"ok": self.exit_code is ExitCode.OK, "at": utc_text(self.now), "groups": groups, "failed": failed}

    def _group_json(self, group: Group) -> dict[str, object]:
        svns = group.svns
        return {
            "ok": self._passed(group),
            "names": list(group.names),
            "platform": svns.sgx,
            "tee": svns.kind.tee.name,
            "fmspc": svns.kind.fmspc.hex(),
            "ca": svns.kind.ca,
            "pce_id": svns.pce_id.hex(),
            "components": list(svns.components),
            "pce_svn": svns.pce_svn,
            "tdx_module_svns": [one.hex() for one in svns.modules],
            "quoting_enclave_svn": svns.quoting_enclave,
            "pck_not_after": utc_text(group.pck_not_after),
            "standard": _json(group, group.standard),
            "early": _json(group, group.early),
            "notes": list(group.sets.notes) if group.sets else [],
            "error": as_data(group.failure) if group.failure else None,
        }

    def lines(self) -> Iterator[str]:
        for group in self.groups:
            yield from map(printable, self._group_lines(group))
        nodes = defaultdict[str, list[str]](list)
        for one in self.failed:
            if failure := one.failure:
                nodes[f"{failure.what} ({failure.error_code}): {failure.why}"].append(one.name)
        yield from (printable(f"{shown(names)}: {what}") for what, names in nodes.items())
        sizes = [len(group.names) for group in self.groups if group.up_to_date(early=self.early)]
        total = sum(len(group.names) for group in self.groups) + len(self.failed)
        yield f"UpToDate by {'both sets' if self.early else 'the standard set'}: {sum(sizes)} of {total} machines"
        for group in self.groups:
            yield from (f"ends within {self.fail_within.days} days: {end:%Y-%m-%d}" for end in self._soon(group))

    def _group_lines(self, group: Group) -> Iterator[str]:
        svns = group.svns
        kind = f"{svns.sgx}, {svns.kind.tee.name}, FMSPC {svns.kind.fmspc.hex()}, {svns.kind.ca} CA"
        yield f"{len(group.names)} x {kind}: {shown(group.names)}"
        if failure := group.failure:
            yield f"  not judged ({failure.error_code}): {failure}"
        for name, judged in (("standard", group.standard), ("early", group.early)):
            if judged and (name == "standard" or judged != group.standard):
                yield from self._set_lines(name, judged, group)
            elif judged:
                yield f"  early set: the standard set, number {judged.evaluation_number}"
        yield from (f"  {note}" for note in (group.sets.notes if group.sets else ()))
        yield f"  PCK certificate: ends {self._until(group.pck_not_after)}"

    def _set_lines(self, name: str, judged: Judgement, group: Group) -> Iterator[str]:
        recovery = group.sets.recovery_dates.get(judged.evaluation_number) if group.sets else None
        dated = f" of {recovery:%Y-%m-%d}" if recovery else ""
        number = f"{name} set, number {judged.evaluation_number}{dated}"
        yield f"  {number}: {judged.status or 'below every level'}; nextUpdate {self._until(judged.next_update)}"
        yield from (f"    {one.text}" for one in judged.shortages)
        for advisory in judged.advisory_ids:
            yield f"    {advisory}{': end of servicing: never again UpToDate' * (advisory in END_OF_SERVICING)}"

    def _until(self, end: datetime) -> str:
        return f"{end:%Y-%m-%d}, in {(end - self.now).days} days"


def _json(group: Group, judged: Judgement | None) -> dict[str, object] | None:
    if judged is None or group.sets is None:
        return None
    recovery = group.sets.recovery_dates.get(judged.evaluation_number)
    return {
        "status": judged.status,
        "evaluation_number": judged.evaluation_number,
        "recovery_date": utc_text(recovery) if recovery else None,
        "tcb_date": utc_text(judged.tcb_date) if judged.tcb_date else None,
        "next_update": utc_text(judged.next_update),
        "advisories": list(judged.advisory_ids),
        "serviced": judged.serviced,
        "short": [
            {"part": one.part, "has": one.has, "needs": one.needs, "category": one.kind.category, "type": one.kind.type}
            for one in judged.shortages
        ],
    }
