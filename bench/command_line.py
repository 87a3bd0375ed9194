"""What the command lines of the benchmarks share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def parser_of(
    module: str, description: str, numbers: Iterable[tuple[str, float, str]], epilog: str = ""
) -> argparse.ArgumentParser:
    """A parser with --output, and a flag for each number, given by its name, its default and its help."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description, epilog=epilog)
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    for name, default, text in numbers:
        shown = f"{text} (default: {default:g})"
        parser.add_argument(f"--{name}", type=type(default), default=default, metavar="N", help=shown)
    return parser


def write_results(name: str, output: Path | None, results: object) -> None:
    """Write the JSON, if no file is named to where git ignores it, and say where it is."""
    path = output or RESULTS / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    sys.stdout.write(f"All of it: {path}\n")


def say_as(name: str) -> Callable[[str], None]:
    """What prints a line of progress."""

    def say(line: str) -> None:
        sys.stderr.write(f"{name}: {line}\n")
        sys.stderr.flush()

    return say
