"""The `confcom` command: finds a command's module by name and imports nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from confcom.daemon.grpc_log import silence_grpc

INSTALL_HINT = """confcom's command line needs packages that the node daemons do without.
Install them with: pip install 'confcom[all]'
The daemons also start without them: python -m confcom.quote_helper, python -m confcom.device_plugin"""


def main() -> None:
    """Entry point of the console script."""
    silence_grpc(os.environ)
    try:
        from confcom.cli.group import cli, output_failures_explained
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich", "yaml"}:
            raise
        sys.stderr.write(INSTALL_HINT + "\n")
        raise SystemExit(2) from error
    with output_failures_explained():
        cli(prog_name=program_name(sys.argv[0]))


def program_name(path: str) -> str:
    """As the person called it: kubectl runs a program `kubectl-confcom` for `kubectl confcom`."""
    return "kubectl confcom" if Path(path).name == "kubectl-confcom" else "confcom"
