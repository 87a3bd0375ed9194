"""The command line of `make bench-e2e`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.cluster.measure import Plan, Results, measure, uninstall
from bench.cluster.table import as_json, as_table
from bench.load import WrongAnswerError
from bench.main import default_output
from confcom.errors import ConfcomError, ExitCode, explain
from e2e import images
from e2e.cluster import Cluster, Shape
from e2e.cluster.lifecycle import interrupt_on_signals
from e2e.conftest import NODES, only_session


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON."""
    options = _parser().parse_args(arguments)
    plan = Plan(
        rounds=options.rounds,
        quotes=options.quotes,
        processes=options.processes,
        clients=options.clients,
        starts=options.starts,
        restarts=options.restarts,
        updates=options.updates,
        idle_seconds=options.idle_seconds,
    )
    try:
        results = _measure(plan)
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
    output = options.output or default_output("cluster", datetime.now(UTC))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(as_json(results), indent=1) + "\n")
    sys.stdout.write(f"All of it: {output}\n")
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
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster",
        description="Measure the add-on on a real cluster of this machine: the running one, or a new one for the time.",
        epilog="examples: --output now.json; --starts 5 --restarts 2 --updates 1 --idle-seconds 10 for a first look",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    usual = Plan()
    for name, default, text in (
        ("rounds", usual.rounds, "rounds of quotes from pods, and as many from the node"),
        ("quotes", usual.quotes, "quotes of each pod in each round"),
        ("processes", usual.processes, "pods that quote"),
        ("clients", usual.clients, "clients in each of them"),
        ("starts", usual.starts, "starts of pods with EPC, and as many without"),
        ("restarts", usual.restarts, "restarts of a kubelet"),
        ("updates", usual.updates, "updates of each daemon"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: {default})")
    parser.add_argument(
        "--idle-seconds",
        type=float,
        default=usual.idle_seconds,
        metavar="N",
        help=f"how long the idle daemons are watched (default: {usual.idle_seconds:g})",
    )
    return parser


def _say(line: str) -> None:
    sys.stderr.write(f"bench: {line}\n")
    sys.stderr.flush()
