"""The command line of `make bench-e2e`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bench.cluster.measure import Plan, measure, uninstall
from bench.cluster.session import cluster_with, ended, say
from bench.cluster.table import as_json, as_table
from bench.command_line import parser_of, write_results
from e2e.conftest import NODES


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON."""
    numbers = vars(_parser().parse_args(arguments))
    output = numbers.pop("output")

    def work() -> None:
        with cluster_with(NODES, leave=uninstall) as (cluster, directory):
            results = measure(cluster, Plan(**numbers), directory, say=say)
        sys.stdout.write(as_table(results))
        write_results("cluster", output, as_json(results))

    return ended(work)


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
