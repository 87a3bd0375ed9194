"""`make bench-e2e`: the add-on on real Kubernetes of this machine, the running cluster or a new one for the time."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.cluster.measure import measure, uninstall
from bench.report import exit_code_of, publish, say_as
from confcom.errors import ExitCode
from e2e.cluster import Cluster, Shape
from e2e.conftest import NODES, shared_cluster

say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: %(default)s; 1 for a first look")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    options = parser.parse_args(arguments)

    def work() -> int:
        running = Cluster.runs()
        shared = shared_cluster(Shape(nodes=NODES))
        with shared as cluster, tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
            sections = measure(cluster, options.rounds, Path(directory), say)
            info = cluster.kubectl_json("get", "node", cluster.node.name)["status"]["nodeInfo"]
            if running:
                uninstall(cluster)
        publish("cluster", sections, options.output, kubernetes=info["kubeletVersion"], nodes=NODES)
        return ExitCode.OK

    return exit_code_of(work, say)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
