"""The command line behind `make e2e-up`, `make e2e-shell` and `make e2e-down`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from confcom.errors import ConfcomError, ExitCode, explain
from e2e.cluster.cluster import Cluster, new_log_folder
from e2e.cluster.lifecycle import default_folder, interrupt_on_signals
from e2e.cluster.tools import prepare
from e2e.progress import say


def main(argv: Sequence[str]) -> int:
    """Do one of the commands."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description="One node of real Kubernetes.")
    parser.add_argument("--folder", type=Path, help=f"where it keeps everything (default: {default_folder()})")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build and cache the programs it runs, and no more")
    commands.add_parser("up", help="start it, or find it running")
    shell = commands.add_parser("shell", help="a shell on the node with kubectl, helm and ctr; or one command there")
    shell.add_argument("arguments", nargs=argparse.REMAINDER, help="program and arguments (default: a shell)")
    commands.add_parser("down", help="end it and remove all of it, also after a crash")
    logs = commands.add_parser("logs", help="collect what explains a failure")
    logs.add_argument("to", type=Path, nargs="?", help="folder to write to (default: a new one)")
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
            say(f"programs of the cluster: {', '.join(map(str, prepare().folders))}")
        case "up":
            interrupt_on_signals()
            cluster = Cluster.up(options.folder)
            sys.stdout.write(cluster.kubectl("get", "nodes", "--output=wide").stdout)
            say(f"memory in use: {cluster.memory() / 2**20:.0f} MiB; logs: {cluster.places.logs}")
        case "down":
            say("the cluster is gone" if Cluster.down(options.folder) else "there was no cluster")
        case "logs":
            sys.stdout.write(f"{Cluster.find(options.folder).collect_logs(options.to or new_log_folder())}\n")
        case "shell":
            cluster = Cluster.find(options.folder)
            command = options.arguments or [os.environ.get("SHELL", "/bin/sh")]
            return subprocess.run(
                cluster.entering(command), env={**os.environ, **cluster.environment}, check=False
            ).returncode
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
