"""Commands of the documentation's pages, run in the cluster as they stand but for the nodes' names."""

from __future__ import annotations

from collections.abc import Sequence

from e2e.cluster import Cluster
from testkit.documentation import commands

NODE = "NODE"
"""The pages' word for a node's name."""


def block(page: str, name: str) -> list[str]:
    """The lines of a page's block that has this name behind its language, as in ```` ```sh drain ````."""
    found = [str(one.line) for one in commands(page) if one.name == name]
    assert found, f"{page} has no block {name}"
    return found


def run_block(cluster: Cluster, page: str, name: str, nodes: Sequence[str], *, timeout: float) -> str:
    """Run each line of a block for these nodes; every line must succeed. Returns what was printed."""
    lines = [line.replace(NODE, " ".join(nodes)) for line in block(page, name)]
    script = "\n".join(["set -o errexit -o xtrace", *lines])
    done = cluster.run(["bash", "-c", script], timeout=timeout)
    return done.stdout + done.stderr
