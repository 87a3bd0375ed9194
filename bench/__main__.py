"""`make bench`: measure daemons and verifier of this checkout, and of another checkout in the same rounds."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.helper import measure_helper
from bench.machine import OTHER, THIS, Checkout
from bench.plugin import measure_plugins
from bench.relay import measure_relay
from bench.report import Measured, Section, command_line, run
from bench.service import measure_service
from bench.updates import measure_updates
from bench.verification import measure_verification

PARTS = {
    "helper": measure_helper,
    "updates": measure_updates,
    "relay": measure_relay,
    "verification": measure_verification,
    "service": measure_service,
    "plugin": measure_plugins,
}
"""The plugin's part comes last: other parts fork, and no process should fork after it has used gRPC."""


def measure(options: argparse.Namespace) -> Measured:
    sides, sections = {THIS: Checkout()}, list[Section]()
    if options.beside is not None:
        sides[OTHER] = Checkout(options.beside)
    for name in options.only or PARTS:
        with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
            sections += PARTS[name](sides, options.rounds, Path(directory))
    return sections, {"sides": {side: str(each.source) for side, each in sides.items()}}


if __name__ == "__main__":
    parser = command_line("bench", __doc__)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts instead of all")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help="another checkout, with a .venv of its own")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: %(default)s")
    sys.exit(run(parser, measure))
