"""Another checkout of confcom, measured in the same rounds: what this one's numbers are in the other's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.summary import Spread
from confcom.errors import SettingsError

HELPER_MODULE = "confcom.quote_helper"


@dataclass(frozen=True, slots=True)
class Checkout:
    """Code that daemons are started from.

    Args:
        python: of its virtual environment.
        source: the directory that has the package.
    """

    python: str
    source: Path

    @classmethod
    def this(cls) -> Checkout:
        """The code of this process."""
        return cls(sys.executable, Path(__file__).resolve().parent.parent / "src")

    @classmethod
    def at(cls, root: Path) -> Checkout:
        """Another directory's, with its own libraries."""
        python = root.resolve() / ".venv" / "bin" / "python"
        if not python.exists():
            raise SettingsError(
                f"{root} cannot be measured", why=f"there is no {python}", remedy="run `make setup` in that checkout"
            )
        return cls(str(python), root.resolve() / "src")

    @property
    def environment(self) -> dict[str, str]:
        """This process' variables, by which its Python finds its package."""
        return {**os.environ, "PYTHONPATH": str(self.source)}

    def lacks(self, words: Iterable[str]) -> list[str]:
        """Those flags or values that its quote helper does not know, by its --help."""
        command = [self.python, "-m", HELPER_MODULE, "--help"]
        shown = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout
        return [word for word in words if word not in shown]


@dataclass(frozen=True, slots=True)
class Pair:
    """One row: a number of both checkouts, a value for each round.

    Args:
        title: of the row.
        unit: of all values.
        ours: this checkout's.
        theirs: the other's; the two of a round were measured one right after the other.
        note: why there are no values, else empty.
    """

    title: str
    unit: str
    ours: Sequence[float] = ()
    theirs: Sequence[float] = ()
    note: str = ""

    @property
    def ratio(self) -> Spread:
        """Ours in theirs, by round."""
        return Spread.of([mine / other for mine, other in zip(self.ours, self.theirs, strict=True)])


def absent(title: str, here: Collection[str], there: Collection[str]) -> Pair | None:
    """A row for a feature that one of the two lacks, given the flags that each lacks; None if both have it."""
    if not here and not there:
        return None
    if here and there:
        return Pair(title, "", note=f"neither has {' '.join(here)}")
    return Pair(title, "", note=f"only {'the other' if here else 'this one'} has {' '.join(here or there)}")


def milliseconds(seconds: Iterable[float]) -> list[float]:
    """As the rows have it."""
    return [value * 1e3 for value in seconds]


def megabytes(sizes: Iterable[float]) -> list[float]:
    """As the rows have it."""
    return [value / 1e6 for value in sizes]


def pairs_as_json(pairs: Sequence[Pair]) -> list[Mapping[str, object]]:
    """All values of all rounds, and the ratio's median, lowest and highest."""
    return [asdict(pair) | {"ratio": None if pair.note else asdict(pair.ratio)} for pair in pairs]


def pairs_as_table(pairs: Sequence[Pair]) -> str:
    """For people; nothing if nothing was measured beside."""
    return "".join(f"{line}\n" for line in _lines(pairs)) if pairs else ""


def _lines(pairs: Sequence[Pair]) -> Iterator[str]:
    yield ""
    yield "Beside the other checkout, in the same rounds: medians, and by round what this one's are in the other's"
    yield f"  {'':84}{'rounds':>6}{'this one':>18}{'the other':>18}{'ratio':>26}"
    for pair in pairs:
        if pair.note:
            yield f"  {pair.title:84}{'':6}{pair.note:>62}"
            continue
        ours, theirs, ratio = Spread.of(pair.ours), Spread.of(pair.theirs), pair.ratio
        values = f"{_value(ours.median, pair.unit):>18}{_value(theirs.median, pair.unit):>18}"
        shown = f"{ratio.median:.3f}x ({ratio.lowest:.2f} to {ratio.highest:.2f})"
        yield f"  {pair.title:84}{len(pair.ours):>6}{values}{shown:>26}"


def _value(value: float, unit: str) -> str:
    return f"{value:.{3 if abs(value) < 10 else 1}f} {unit}"
