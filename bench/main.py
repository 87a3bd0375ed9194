"""The command line of `make bench`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.device_plugin.kubelet import MissingError
from bench.device_plugin.measure import PluginPlan, measure_plugins
from bench.device_plugin.table import plugins_as_json, plugins_as_table
from bench.load import WrongAnswerError
from bench.measure import Plan, measure
from bench.table import as_json, as_table

RESULTS = Path(__file__).parent / "results"
HELPER, PLUGIN = "helper", "plugin"
"""The parts; the helper's comes first, since it forks, which a process that has used gRPC should not."""


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON. Missed goals are shown, and are no failure: machines differ.

    Returns:
        1 if a server gave a wrong answer, or none, else 0.
    """
    options = _parser().parse_args(arguments)
    done: dict[str, object] = {}
    try:
        if options.only != PLUGIN:
            with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
                results = measure(_helper_plan(options), Path(directory), say=_say)
            sys.stdout.write(as_table(results))
            done = as_json(results)
        if options.only != HELPER:
            with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
                plugins = measure_plugins(_plugin_plan(options), Path(directory), say=_say)
            sys.stdout.write(("\n" if done else "") + plugins_as_table(plugins))
            done["device_plugin"] = plugins_as_json(plugins)
    except WrongAnswerError as error:
        _say(f"wrong answer: {error}")
        return 1
    except MissingError as error:
        _say(f"no answer: {error}")
        return 1
    output = options.output or default_output("bench", datetime.now(UTC))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(done, indent=1) + "\n")
    sys.stdout.write(f"All of it: {output}\n")
    return 0


def default_output(name: str, now: datetime) -> Path:
    """Where results go that nobody named a file for; git ignores it."""
    return RESULTS / f"{name}-{now:%Y%m%d-%H%M%S}.json"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the daemons on this machine.")
    usual, plugin = Plan(), PluginPlan()
    parser.add_argument("--only", choices=(HELPER, PLUGIN), help="one part instead of both")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    for name, default, text in (
        ("rounds", usual.rounds, "rounds over all servers"),
        ("quotes", usual.quotes, "quotes of each server in each round"),
        ("repetitions", usual.repetitions, "of single calls and of whole sequences"),
        ("starts", usual.starts, "starts that are timed"),
        ("idle", usual.idle, "idle connections"),
        ("plugin-rounds", plugin.rounds, "rounds over device plugins for each size of node"),
        ("allocations", plugin.allocations, "Allocate calls in each of those rounds"),
        ("largest-mib", plugin.largest_mib, "a last, large node, in one round; 0: none"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="CHECKOUT",
        help="measure the quote helper of another checkout in the same rounds",
    )
    parser.add_argument("--without-go", action="store_true", help="leave out the device plugin in Go")
    parser.add_argument(
        "--mib",
        type=int,
        nargs="+",
        default=plugin.mib,
        metavar="N",
        help=f"sizes of nodes (default: {_words(plugin.mib)})",
    )
    return parser


def _words(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _helper_plan(options: argparse.Namespace) -> Plan:
    return Plan(
        rounds=options.rounds,
        quotes=options.quotes,
        repetitions=options.repetitions,
        starts=options.starts,
        idle=options.idle,
        beside=options.beside and options.beside.resolve(),
    )


def _plugin_plan(options: argparse.Namespace) -> PluginPlan:
    return PluginPlan(
        mib=tuple(options.mib),
        largest_mib=options.largest_mib,
        rounds=options.plugin_rounds,
        allocations=options.allocations,
        with_go=not options.without_go,
    )


def _say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()
