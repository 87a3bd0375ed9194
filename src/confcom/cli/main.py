"""The `confcom` program. Of the commands, it imports only the one that runs.

Until `main` runs, only modules that the interpreter has already loaded are imported, so that Ctrl-C ends the program
quietly from the start.
"""

from __future__ import annotations

import sys

INSTALL_HINT = """confcom's command line needs packages that the node daemons do without.
Install them with: pip install 'confcom[all]'
The daemons also start without them: python -m confcom.quote_helper, python -m confcom.device_plugin"""


def main() -> None:
    """Run the command line; this is the entry point of the console script."""
    try:
        _run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # confcom.errors.ExitCode, which may not have been imported yet


def _run() -> None:
    import os

    from confcom.cli.standard_streams import open_closed_streams

    open_closed_streams()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # why: confcom.device_plugin.__main__
    try:
        from confcom.cli.failures import explain_unexpected_failures
        from confcom.cli.group import cli
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"click", "rich", "yaml"}:
            raise
        sys.stderr.write(INSTALL_HINT + "\n")
        raise SystemExit(2) from error
    with explain_unexpected_failures(sys.argv[1:]):
        cli(prog_name=program_name(sys.argv[0]))


def program_name(path: str) -> str:
    """Return the program's name as the user typed it; kubectl runs `kubectl-confcom` for `kubectl confcom`."""
    return "kubectl confcom" if path.rpartition("/")[2] == "kubectl-confcom" else "confcom"
