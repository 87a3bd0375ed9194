"""What a campaign shows: a table for people, a line of JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

from fuzz.campaign import MIN_DECODED, FoundBug, Tally

MIB: Final = 1024 * 1024
MAX_SHOWN_INPUT: Final = 4_000
"""Characters of an input that are printed; the whole one is in the JSON line."""


def passed(tally: Tally) -> bool:
    """Whether nothing was found, and enough inputs got deep enough for that to mean something."""
    return not tally.bugs and tally.inputs > 0 and tally.decoded_share >= MIN_DECODED


def table(tally: Tally) -> str:
    """Everything, in lines."""
    return "\n".join(_lines(tally))


def json_line(tallies: Sequence[Tally]) -> str:
    """Everything, in one line."""
    return json.dumps([_as_json(tally) for tally in tallies])


def _lines(tally: Tally) -> Iterator[str]:
    yield f"## {tally.name}"
    yield f"{tally.inputs:>10,} inputs in {tally.seconds:.1f} s"
    share, due = f"{tally.decoded_share:.1%}", f"{MIN_DECODED:.0%}"
    yield f"{tally.decoded:>10,} reached a decoded message ({share}, at least {due} are due)"
    for outcome, count in tally.outcomes.most_common():
        yield f"{count:>10,} {outcome}"
    for before, after in tally.rss:
        yield f"memory: {before / MIB:.1f} MiB after the warm-up, {after / MIB:.1f} MiB at the end"
    for what, noted in tally.notes.items():
        yield f"{what}: {noted:,}"
    for bug in tally.bugs:
        yield from _bug_lines(bug)
    yield "passed" if passed(tally) else "FAILED"


def _bug_lines(bug: FoundBug) -> Iterator[str]:
    yield f"WRONG: {bug.finding.rule}"
    yield f"  {bug.finding.detail}"
    if bug.sent is not None:
        size = "made small" if bug.alone else "only beside the inputs around it"
        yield f"  input {bug.index}, {size}: {str(bug.sent)[:MAX_SHOWN_INPUT]}"


def _as_json(tally: Tally) -> dict[str, object]:
    return {
        "name": tally.name,
        "passed": passed(tally),
        "inputs": tally.inputs,
        "decoded": tally.decoded,
        "seconds": round(tally.seconds, 1),
        "outcomes": dict(tally.outcomes.most_common()),
        "rss_bytes": [list(pair) for pair in tally.rss],
        "notes": tally.notes,
        "bugs": [
            {"rule": bug.finding.rule, "detail": bug.finding.detail, "index": bug.index, "alone": bug.alone}
            | ({} if bug.sent is None else {"input": str(bug.sent)})
            for bug in tally.bugs
        ],
    }
