"""`make bench-e2e`: the add-on on real Kubernetes of this machine, the running cluster or a new one for the time."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.cluster.measure import measure, uninstall
from bench.load import WrongAnswerError
from bench.report import publish, say_as
from confcom.errors import ConfcomError, ExitCode, explain
from e2e import images
from e2e.cluster import Cluster, Shape
from e2e.cluster.lifecycle import interrupt_on_signals
from e2e.conftest import NODES, only_session

say = say_as("bench")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: %(default)s; 1 for a first look")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes (default: in bench/results)")
    options = parser.parse_args(arguments)
    try:
        with _cluster() as (cluster, directory):
            sections = measure(cluster, options.rounds, directory, say)
            info = cluster.kubectl_json("get", "node", cluster.node.name)["status"]["nodeInfo"]
    except WrongAnswerError as error:
        say(f"wrong answer: {error}")
        return ExitCode.FAILED
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    publish("cluster", sections, options.output, kubernetes=info["kubeletVersion"], nodes=NODES)
    return ExitCode.OK


@contextmanager
def _cluster() -> Iterator[tuple[Cluster, Path]]:
    """The running cluster, which stays, or a new one; with our images, and a folder that its nodes see."""
    interrupt_on_signals()
    with only_session(), tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
        archives = images.build_all()
        ours = not Cluster.runs()
        cluster = Cluster.up(shape=Shape(nodes=NODES))
        try:
            for archive in archives.values():
                cluster.import_image(archive)
            yield cluster, Path(directory)
        finally:
            if ours:
                Cluster.down()
            else:
                cluster.mend()
                uninstall(cluster)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
