"""`make bench`: the daemons on this machine, and those of another checkout in the same rounds."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.checkout import OTHER, THIS, Checkout
from bench.helper import measure_helper
from bench.plugin import measure_plugins
from bench.relay import measure_relay
from bench.report import Section, exit_code_of, publish, say_as
from confcom.errors import ExitCode

PARTS = {"helper": measure_helper, "relay": measure_relay, "plugin": measure_plugins}
"""The plugin's part is last: the others fork, which a process that has used gRPC should not."""
ROUNDS = 7

say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=list(PARTS), help="one part instead of all")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another checkout, with a .venv of its own")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    options = parser.parse_args(arguments)

    def work() -> int:
        sides, sections = {THIS: Checkout.this()}, list[Section]()
        if options.beside is not None:
            sides[OTHER] = Checkout.at(options.beside)
        for name in [options.only] if options.only else PARTS:
            with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
                sections += PARTS[name](sides, options.rounds, Path(directory), say)
        publish("bench", sections, options.output, sides={side: str(each.source) for side, each in sides.items()})
        return ExitCode.OK

    return exit_code_of(work, say)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
