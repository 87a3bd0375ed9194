"""The `confcom` program, which imports only the command that runs.

Before `main` runs, only modules that the interpreter has loaded anyway are imported, so that an early Ctrl-C
ends the program quietly.
"""

import gc
import io
import os
import sys

GC_THRESHOLD = 100_000
"""Number of new objects between two garbage collections. A large cluster's lists are millions of objects,
none of them garbage. With Python's default (700), `status` takes twice the time for 5,000 nodes."""
_DESCRIPTORS = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""The mode in which /dev/null replaces each closed stream. Reading stdin and writing stdout fail then, as they
should for closed streams. Output to stderr is dropped, because it must not stop a change to a cluster half-way."""


def main() -> None:
    try:
        gc.set_threshold(GC_THRESHOLD)
        open_closed_streams()
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # confcom.device_plugin.__main__ gives the reason
        from confcom.extras import exit_without_extra

        with exit_without_extra("cli"):
            from confcom.cli.failures import explain_unexpected_failures
            from confcom.cli.group import cli
        with explain_unexpected_failures(sys.argv[1:]):
            cli(prog_name=program_name(sys.argv[0]))
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as in confcom.errors.ExitCode, which is perhaps not imported yet
    finally:
        drop_unwritten_output()


def open_closed_streams() -> None:
    """Open each closed standard stream, so that no file gets the stream's descriptor later.

    Python sets a closed stream to None, and drops output to this stream without an error. Characters that
    stdout cannot encode are printed as escapes.
    """
    for descriptor, mode in _DESCRIPTORS.items():
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)  # open returns the lowest free descriptor: `descriptor`
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    # The stream has no buffer, because a flush at the interpreter's end would fail once more.
    sys.stdout = sys.stdout or io.TextIOWrapper(os.fdopen(1, "wb", buffering=0, closefd=False), write_through=True)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def drop_unwritten_output() -> None:
    """Discard output that stdout refused. The interpreter would write the output again, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def program_name(path: str) -> str:
    """Return the name that the user typed: for `kubectl confcom`, kubectl runs `kubectl-confcom`."""
    return "kubectl confcom" if path.rpartition("/")[2] == "kubectl-confcom" else "confcom"
