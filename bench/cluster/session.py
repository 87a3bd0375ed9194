"""What the benchmarks on a cluster share: where they run, and how they end."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.command_line import say_as
from bench.load import WrongAnswerError
from confcom.errors import ConfcomError, ExitCode, explain
from e2e import images
from e2e.cluster import Cluster, Shape
from e2e.cluster.lifecycle import interrupt_on_signals
from e2e.conftest import only_session

say = say_as("bench")


def ended(work: Callable[[], None]) -> int:
    """Do the work, and tell how it ended, as an exit code."""
    try:
        work()
    except WrongAnswerError as error:
        say(f"wrong answer: {error}")
        return ExitCode.FAILED
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return ExitCode.INTERRUPTED
    return ExitCode.OK


@contextmanager
def cluster_with(nodes: int, leave: Callable[[Cluster], None]) -> Iterator[tuple[Cluster, Path]]:
    """The running cluster, which stays, or a new one for the time; it has our images. And a folder for the time.

    Args:
        nodes: how many it has at least.
        leave: called with a cluster that stays, whatever happened.
    """
    interrupt_on_signals()
    with only_session(), tempfile.TemporaryDirectory(dir="/tmp", prefix="bench-") as directory:
        archives = images.build_all()
        ours = not Cluster.runs()
        cluster = Cluster.up(shape=Shape(nodes=nodes))
        try:
            for archive in archives.values():
                cluster.import_image(archive)
            yield cluster, Path(directory)
        finally:
            if ours:
                Cluster.down()
            else:
                cluster.mend()
                leave(cluster)
