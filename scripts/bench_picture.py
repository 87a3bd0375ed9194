"""Draw the README's chart from the JSON of `make bench`: rows are kept in docs/images/measured.json, beside the chart.

Usage: bench_picture.py [RESULT.json | --check]     (default: draws docs/images/measured.json again)

make bench ARGS="--only helper updates verification --output RESULT.json" measures, and .venv-docs/bin/python
scripts/bench_picture.py RESULT.json draws. --check compares the README's caption only, and needs no matplotlib.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generated_part import DOCS, write_or_check

IMAGES = DOCS / "images"
ROWS = {
    "CPU per quote: default": "signatures",
    "CPU of a verification": "µs",
    "updates": "",
    "attestations": "",
    "failed attestations": "",
}
"""The rows of the chart, with their units."""
OURS, DCAP_QVL, OURS_EACH_TIME, INTELS = "collateral parsed once", "dcap-qvl alone", "parsed each time", "Intel's QVL"
INCHES, FONT_POINTS = (5.6, 5.2), 12
"""Size of the chart, and of its letters, which can be read on a telephone too."""
TITLE_AT = -0.2
"""Where titles begin, in widths of the bars' area: at the names of the bars."""
BLUE, GREY, INK = "#2f5fb3", "#9aa5b1", "#1f2933"


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, in the colour of `ours` or of others. Its whisker goes from the lowest to the highest round."""

    name: str
    values: Sequence[float]
    unit: str = ""
    ours: bool = True

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def label(self) -> str:
        return f"{self.median:{',.0f' if not self.unit else '.1f' if self.median >= 1 else '.2f'}} {self.unit}".strip()


def chosen(result: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a result that the chart shows; of both TEEs, SGX comes first."""
    rows: dict[str, Any] = {}
    for row in (row for section in result["sections"] for row in section["rows"]):
        if ROWS.get(row["title"]) == row["unit"]:
            rows.setdefault(row["title"], {"title": row["title"], "unit": row["unit"], "values": row["values"]})
    if missing := ROWS.keys() - rows:
        sys.exit(f"the result has no rows {', '.join(sorted(missing))}: measure helper, updates and verification")
    machine = {name: result["machine"][name] for name in ("cpu", "cores", "python")}
    return {"commit": result["commit"], "machine": machine, "sections": [{"rows": [*rows.values()]}]}


def panels(result: dict[str, Any]) -> dict[str, list[Bar]]:
    rows = {row["title"]: row["values"] for row in result["sections"][0]["rows"]}
    (quote,), verification = rows["CPU per quote: default"].values(), rows["CPU of a verification"]
    (updates,), (asked,), (failed,) = (rows[name].values() for name in list(ROWS)[2:])
    ms = {side: [value / 1e3 for value in values] for side, values in verification.items()}
    return {
        "CPU of a quote, in P-256 signatures": [
            Bar("signature", [1.0], "x", ours=False),
            Bar("quote", quote, "x"),
        ],
        "CPU of a verification, collateral parsed once": [
            Bar("dcap-qvl", ms[DCAP_QVL], "ms", ours=False),
            Bar("confcom", ms[OURS], "ms"),
        ],
        "CPU of a verification, collateral parsed each time": [
            Bar("Intel's QVL", ms[INTELS], "ms", ours=False),
            Bar("confcom", ms[OURS_EACH_TIME], "ms"),
        ],
        f"Attestations beside {updates[0]:.0f} updates of the quote helper": [
            Bar("made", asked),
            Bar("failed", failed),
        ],
    }


def caption(result: dict[str, Any]) -> str:
    parts = "; ".join(
        f"{title}: {', '.join(f'{bar.name} {bar.label}' for bar in bars)}" for title, bars in panels(result).items()
    )
    machine, rounds = result["machine"], len(next(iter(result["sections"][0]["rows"][0]["values"].values())))
    return (
        f"![{parts}](docs/images/measured.svg)\n\n"
        f"*Medians of {rounds} rounds of `make bench` at commit {result['commit']}, on {machine['cores']} cores of "
        f"{machine['cpu']} with Python {machine['python']}; whiskers go from the lowest to the highest round.*\n"
    )


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the chart as SVG, with the same bytes each time."""
    import matplotlib as mpl  # noqa: PLC0415 # only the environment of the site has it

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "confcom", "svg.fonttype": "none", "font.family": "sans-serif"})
    mpl.rcParams.update({"font.size": FONT_POINTS, "text.color": INK, "ytick.color": INK})
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shown = panels(result)
    figure, axes = plt.subplots(len(shown), figsize=INCHES, layout="constrained")
    for axis, (title, bars) in zip(axes, shown.items(), strict=True):
        axis.set_title(title, x=TITLE_AT, loc="left", fontsize=FONT_POINTS, fontweight="bold")
        medians = [bar.median for bar in bars]
        whiskers = [[bar.median - min(bar.values), max(bar.values) - bar.median] for bar in bars]
        drawn = axis.barh(
            [bar.name for bar in bars],
            medians,
            xerr=[*zip(*whiskers, strict=True)],
            error_kw={"ecolor": INK},
            color=[BLUE if bar.ours else GREY for bar in bars],
        )
        axis.bar_label(drawn, [f" {bar.label}" for bar in bars])
        axis.set_xlim(0, max(max(bar.values) for bar in bars) * 1.3)
        axis.invert_yaxis()
        axis.xaxis.set_visible(False)
        axis.tick_params(left=False)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> int:
    rows = IMAGES / "measured.json"
    given = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    result = chosen(json.loads((given[0] if given else rows).read_text()))
    if "--check" not in sys.argv:
        draw(result, IMAGES / "measured.svg")
        rows.write_text(json.dumps(result) + "\n")
    return write_or_check({"README.md": {"chart": caption(result)}}, folder="..")


if __name__ == "__main__":
    sys.exit(main())
