"""The judgements of another verifier beside the expected verdicts, as a table."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from confcom.errors import ExitCode
from vectors.vector import INDEX, Vector

AUTHENTIC: Final = {"verified", "authentic-not-authorised"}
"""Kinds of verdict whose quotes another verifier must accept, since it does not know the policy."""
AGREES, KNOWN, SKIPPED = "agrees", "differs, known", "skipped"
DIFFERS, OUTDATED = "DIFFERS", "DIFFERS NO MORE"


@dataclass(frozen=True, slots=True)
class Judgement:
    tcb_status: str | None
    """None: refused."""
    advisory_ids: list[str] | None = None
    """None: the verifier does not report them."""
    reason: str = ""

    def __str__(self) -> str:
        return " ".join([self.tcb_status or "refused", *(self.advisory_ids or ()), self.reason[:60]]).strip()


def compare(folder: Path, judge: Callable[[Vector], Judgement | None], known: Mapping[str, Sequence[str]]) -> ExitCode:
    """Print a row for each vector; fail if one differs without a known reason, or differs no more.

    Args:
        folder: the folder that `python -m vectors` wrote.
        judge: the other verifier; it returns None for a vector that it cannot judge.
        known: patterns of names of vectors that the other verifier judges differently, keyed by the reason.
    """
    counts = Counter[str]()
    for file in json.loads((folder / INDEX).read_bytes())["sha256"]:
        vector = json.loads((folder / file).read_bytes())
        expected, found = vector["expected"], judge(vector)
        reasons = (
            reason for reason, names in known.items() if any(fnmatchcase(vector["name"], name) for name in names)
        )
        reason = next(reasons, "")
        wanted = Judgement(expected["tcb_status"] if expected["kind"] in AUTHENTIC else None)
        if wanted.tcb_status and found and found.advisory_ids is not None:
            wanted = Judgement(wanted.tcb_status, expected["advisory_ids"])
        if found is None:
            result = SKIPPED
        elif (found.tcb_status, found.advisory_ids) == (wanted.tcb_status, wanted.advisory_ids):
            result = OUTDATED if reason else AGREES
        else:
            result = KNOWN if reason else DIFFERS
        counts[result] += 1
        row = (vector["name"], str(wanted), str(found or SKIPPED), f"{result}: {reason}" if reason else result)
        sys.stdout.write(" | ".join(row) + "\n")
    sys.stdout.write(", ".join(f"{count} {result}" for result, count in sorted(counts.items())) + "\n")
    return ExitCode.FAILED if counts[DIFFERS] or counts[OUTDATED] else ExitCode.OK


def folder_of(program: str, description: str | None) -> Path:
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    parser.add_argument("folder", type=Path, help="the folder that `python -m vectors` wrote")
    folder: Path = parser.parse_args().folder
    return folder
