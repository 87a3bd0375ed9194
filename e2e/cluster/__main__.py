"""The command line behind `make e2e-up`, `make e2e-shell` and `make e2e-down`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from confcom.errors import ConfcomError, ExitCode, explain
from e2e.cluster import tools
from e2e.cluster.cluster import Cluster
from e2e.cluster.lifecycle import interrupt_on_signals
from e2e.cluster.plan import Shape
from e2e.progress import say


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.cluster",
        description="Real Kubernetes: one node, or several.",
        epilog="examples: up; up --nodes 3; up --kubernetes 1.34.4; shell kubectl get pods -A; "
        "shell --node 2 ctr images list",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build and cache the programs it runs, and no more")
    up = commands.add_parser("up", help="start it, or find it running")
    up.add_argument("--nodes", type=int, default=1, help="how many nodes it has (default: 1)")
    known = ", ".join(tools.versions())
    for command in (build, up):
        command.add_argument(
            "--kubernetes", metavar="VERSION", default="", help=f"version of all of it (default: the first of {known})"
        )
    shell = commands.add_parser("shell", help="a shell on the node with kubectl, helm and ctr; or one command there")
    shell.add_argument("--node", type=int, default=1, metavar="NUMBER", help="which node (default: 1)")
    shell.add_argument("arguments", nargs=argparse.REMAINDER, help="program and arguments (default: a shell)")
    commands.add_parser("down", help="end it and remove all of it, also after a crash")
    options = parser.parse_args(argv)
    try:
        return _do(options)
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted; nothing is left" if options.command == "up" else "interrupted")
        return ExitCode.INTERRUPTED


def _do(options: argparse.Namespace) -> int:
    match options.command:
        case "build":
            folders = tools.prepare(options.kubernetes).folders
            say(f"programs: {', '.join(map(str, folders))}")
        case "up":
            interrupt_on_signals()
            cluster = Cluster.up(shape=Shape(options.nodes, options.kubernetes))
            sys.stdout.write(cluster.kubectl("get", "nodes", "--output=wide").stdout)
            say(f"logs: {cluster.places.logs}")
        case "down":
            say("the cluster is gone" if Cluster.down() else "there was no cluster")
        case "shell":
            cluster = Cluster.find()
            command = options.arguments or [os.environ.get("SHELL", "/bin/sh")]
            node = cluster.nodes[options.node - 1]
            return subprocess.run(
                node.entering(command), env={**os.environ, **cluster.environment}, check=False
            ).returncode
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
