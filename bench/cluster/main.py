"""The command line of `make bench-e2e`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.cluster.measure import Plan, Results, measure, uninstall
from bench.cluster.table import as_json, as_table
from bench.command_line import parser_of, say_as, write_results
from bench.load import WrongAnswerError
from confcom.errors import ConfcomError, ExitCode, explain
from e2e import images
from e2e.cluster import Cluster, Shape
from e2e.cluster.lifecycle import interrupt_on_signals
from e2e.conftest import NODES, only_session

_say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON."""
    numbers = vars(_parser().parse_args(arguments))
    output = numbers.pop("output")
    try:
        results = _measure(Plan(**numbers))
    except WrongAnswerError as error:
        _say(f"wrong answer: {error}")
        return ExitCode.FAILED
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
        return ExitCode.INTERRUPTED
    sys.stdout.write(as_table(results))
    write_results("cluster", output, as_json(results))
    return ExitCode.OK


def _measure(plan: Plan) -> Results:
    """On the running cluster, which stays, without the add-on; or on a new one, which is taken down again."""
    interrupt_on_signals()
    with only_session(), tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
        archives = images.build_all()
        ours = not Cluster.runs()
        cluster = Cluster.up(shape=Shape(nodes=NODES))
        try:
            for archive in archives.values():
                cluster.import_image(archive)
            return measure(cluster, plan, Path(directory), say=_say)
        finally:
            if ours:
                Cluster.down()
            else:
                cluster.mend()
                uninstall(cluster)


def _parser() -> argparse.ArgumentParser:
    usual = Plan()
    numbers = (
        ("rounds", usual.rounds, "rounds of quotes from pods, and as many from the node"),
        ("quotes", usual.quotes, "quotes of each pod in each round"),
        ("processes", usual.processes, "pods that quote"),
        ("clients", usual.clients, "clients in each of them"),
        ("starts", usual.starts, "starts of pods with EPC, and as many without"),
        ("restarts", usual.restarts, "restarts of a kubelet"),
        ("updates", usual.updates, "updates of each daemon"),
        ("idle-seconds", usual.idle_seconds, "how long the idle daemons are watched"),
    )
    return parser_of(
        "bench.cluster",
        "Measure the add-on on a real cluster of this machine: the running one, or a new one for the time.",
        numbers,
        epilog="examples: --output now.json; --starts 5 --restarts 2 --updates 1 --idle-seconds 10 for a first look",
    )
