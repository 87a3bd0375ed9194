"""The command line of `make bench`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.beside import Checkout
from bench.command_line import parser_of, say_as, write_results
from bench.device_plugin.kubelet import MissingError
from bench.device_plugin.measure import PluginPlan, measure_plugins
from bench.device_plugin.table import plugins_as_json, plugins_as_table
from bench.hardware.relay import RelayPlan, measure_relay
from bench.hardware.table import hardware_as_json, hardware_as_table
from bench.load import WrongAnswerError
from bench.measure import Plan, measure
from bench.table import as_json, as_table
from confcom.errors import SettingsError, explain

HELPER, HARDWARE, PLUGIN = "helper", "hardware", "plugin"
"""The parts; the plugin's comes last, since the others fork, which a process that has used gRPC should not."""
_say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON. Missed goals are shown, and are no failure: machines differ.

    Returns:
        1 if a server gave a wrong answer, or none, else 0.
    """
    options = _parser().parse_args(arguments)
    try:
        options.beside = options.beside and Checkout.at(options.beside)
    except SettingsError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    done: dict[str, object] = {}
    try:
        if options.only in {None, HELPER}:
            with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
                results = measure(_helper_plan(options), Path(directory), say=_say)
            sys.stdout.write(as_table(results))
            done = as_json(results)
        if options.only in {None, HARDWARE}:
            with tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
                relay = measure_relay(_relay_plan(options), Path(directory), say=_say)
            sys.stdout.write(("\n" if done else "") + hardware_as_table(relay))
            done["hardware"] = hardware_as_json(relay)
        if options.only in {None, PLUGIN}:
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
    write_results("bench", options.output, done)
    return 0


def _parser() -> argparse.ArgumentParser:
    usual, relay, plugin = Plan(), RelayPlan(), PluginPlan()
    numbers = (
        ("rounds", usual.rounds, "rounds over all servers"),
        ("quotes", usual.quotes, "quotes of each server in each round"),
        ("repetitions", usual.repetitions, "of single calls and of whole sequences"),
        ("starts", usual.starts, "starts that are timed"),
        ("idle", usual.idle, "idle connections"),
        ("hardware-rounds", relay.rounds, "rounds over the relay and what it adds to"),
        ("hardware-quotes", relay.single, "quotes of each of these in each of those rounds"),
        ("plugin-rounds", plugin.rounds, "rounds over device plugins for each size of node"),
        ("allocations", plugin.allocations, "Allocate calls in each of those rounds"),
        ("largest-mib", plugin.largest_mib, "a last, large node, in one round; 0: none"),
    )
    parser = parser_of("bench", "Measure the daemons on this machine.", numbers)
    parser.add_argument("--only", choices=(HELPER, HARDWARE, PLUGIN), help="one part instead of all")
    beside = "measure the daemons of another checkout, which has a .venv, in the same rounds"
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT", help=beside)
    parser.add_argument("--without-go", action="store_true", help="leave out the device plugin in Go")
    sizes = f"sizes of nodes (default: {' '.join(map(str, plugin.mib))})"
    parser.add_argument("--mib", type=int, nargs="+", default=plugin.mib, metavar="N", help=sizes)
    return parser


def _helper_plan(options: argparse.Namespace) -> Plan:
    return Plan(
        rounds=options.rounds,
        quotes=options.quotes,
        repetitions=options.repetitions,
        starts=options.starts,
        idle=options.idle,
        beside=options.beside,
    )


def _relay_plan(options: argparse.Namespace) -> RelayPlan:
    quotes = options.hardware_quotes
    return RelayPlan(rounds=options.hardware_rounds, single=quotes, loaded=2 * quotes, beside=options.beside)


def _plugin_plan(options: argparse.Namespace) -> PluginPlan:
    return PluginPlan(
        mib=tuple(options.mib),
        largest_mib=options.largest_mib,
        rounds=options.plugin_rounds,
        allocations=options.allocations,
        with_go=not options.without_go,
        beside=options.beside,
    )
