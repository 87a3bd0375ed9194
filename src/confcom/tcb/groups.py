"""Machines with equal SVNs, which are judged once, by the sets of their kind of platform."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from confcom.errors import ConfcomError, UnavailableError
from confcom.sgx.collateral_json import PlatformKind
from confcom.sgx.pck.platform_page import SgxKind
from confcom.sgx.tcb_documents import TcbStatus
from confcom.tcb.judgement import Judgement, Machine, Svns, judge
from confcom.tcb.quotes import require_authentic
from confcom.tcb.sets import Sets, Trust, read_sets
from confcom.verify import NotVerifiedError

MAX_KINDS = 32
"""Kinds of platforms whose sets are read: clusters have a few models of processors, and any node's page can lie."""


@dataclass(frozen=True, slots=True)
class Group:
    """Machines with equal SVNs. Either the sets and the standard judgement, or `failure` are known."""

    svns: Svns
    names: tuple[str, ...]
    pck_not_after: datetime
    """When the first of the PCK certificates ends."""
    sets: Sets | None = None
    standard: Judgement | None = None
    early: Judgement | None = None
    failure: ConfcomError | None = None

    def ends(self) -> Iterator[datetime]:
        yield self.pck_not_after
        yield from (one.next_update for one in (self.standard, self.early) if one)

    def up_to_date(self, *, early: bool) -> bool:
        """Whether the standard set says so, and with `early` the early one too."""
        judged = (self.standard, self.early) if early else (self.standard,)
        return all(one is not None and one.status is TcbStatus.UP_TO_DATE for one in judged)


def judge_machines(
    machines: Sequence[Machine],
    trusts: Mapping[SgxKind, Trust],
    now: datetime,
    *,
    need_early: bool,
    say: Callable[[str], None],
) -> tuple[tuple[Group, ...], tuple[Machine, ...]]:
    """Return the groups, and the machines of which no SVNs are known or whose quote is not authentic."""
    groups, failed = list[Group](), [one for one in machines if one.failure]
    of_kind = defaultdict[tuple[SgxKind, PlatformKind], list[Machine]](list)
    for one in machines:
        if one.svns:
            of_kind[one.svns.sgx, one.svns.kind].append(one)
    for number, ((sgx, kind), some) in enumerate(sorted(of_kind.items(), key=lambda item: -len(item[1]))):
        try:
            if number >= MAX_KINDS:
                what = f"there are more than {MAX_KINDS} kinds of platforms, and those with few machines are not judged"
                raise UnavailableError(what, error_code="too-many-platform-kinds", remedy="judge quotes of them")
            say(f"reading the sets of FMSPC {kind.fmspc.hex()}, {kind.ca}, {kind.tee.name}")
            trust = trusts[sgx]
            sets = read_sets(trust, kind, now, need_early=need_early)
        except ConfcomError as error:
            groups += [Group(*alike, failure=error) for alike in _alike(some)]
            continue
        authentic = list[Machine]()
        for one in some:
            try:
                if one.quote:
                    require_authentic(one.quote, trust.root, sets.standard, now)
                authentic.append(one)
            except NotVerifiedError as error:
                failed.append(Machine(one.name, failure=error))
        for svns, names, end in _alike(authentic):
            early = judge(svns, sets.early.documents) if sets.early else None
            groups.append(Group(svns, names, end, sets, judge(svns, sets.standard.documents), early))
    return tuple(groups), tuple(failed)


def _alike(machines: Sequence[Machine]) -> Iterator[tuple[Svns, tuple[str, ...], datetime]]:
    found = defaultdict[Svns, list[Machine]](list)
    for one in machines:
        if one.svns:
            found[one.svns].append(one)
    for svns, some in sorted(found.items(), key=lambda item: -len(item[1])):
        yield svns, tuple(one.name for one in some), min(one.pck_not_after for one in some if one.pck_not_after)
