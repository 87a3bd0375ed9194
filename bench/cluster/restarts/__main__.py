"""The command line of the benchmark of kubelet restarts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bench.cluster.measure import uninstall
from bench.cluster.restarts.measure import Plan, measure
from bench.cluster.restarts.table import as_json, as_table
from bench.cluster.session import cluster_with, ended, say
from bench.command_line import parser_of, write_results

_USUAL = Plan()
_NUMBERS = (
    ("pods", _USUAL.pods, "Pods on each node"),
    ("runs", _USUAL.runs, "restarts of each kubelet, in turn"),
    (
        "device-runs",
        _USUAL.device_runs,
        "restarts of the kubelet with many devices, four minutes each, after the others",
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, write the JSON."""
    numbers = vars(
        parser_of(
            "bench.cluster.restarts",
            "Measure restarts of kubelets beside Pods, on a cluster of four nodes on this machine, or five: "
            "the running one, or a new one for the time.",
            _NUMBERS,
            epilog="examples: --output now.json; --pods 20 --runs 2 for a first look",
        ).parse_args(arguments)
    )
    output = numbers.pop("output")

    def work() -> None:
        plan = Plan(**numbers)
        with cluster_with(len(plan.groups), leave=uninstall) as (cluster, directory):
            results = measure(cluster, plan, directory, say=say)
        sys.stdout.write(as_table(results))
        write_results("restarts", output, as_json(results))

    return ended(work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
