"""Prints errors of commands (what happened, why, what to do) to stderr, and on request as JSON to stdout."""

import contextlib
import errno
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from confcom.cli.output_option import asks_for_json, show_json
from confcom.errors import ConfcomError, OutputError, SettingsError, UnavailableError, as_data, explain
from confcom.extras import missing_extra

OUTPUT_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
"""Errors of write(2) on stdout: full disk, quota, file size limit, removed terminal or disk, closed
descriptor."""
TRACEBACK_VARIABLE = "CONFCOM_TRACEBACK"
"""If this variable is not empty, an exception that is a bug is printed with its traceback."""


def show_error(error: ConfcomError, *, as_json: bool) -> None:
    """Print three lines to stderr: what happened, why, what to do. If `as_json`, print JSON to stdout too."""
    # Failed writes to a stream are ignored, since the exit code still reports the error.
    if as_json:
        with contextlib.suppress(OSError):
            show_json({"error": as_data(error), **error.details})
    with contextlib.suppress(OSError):
        click.echo(explain(error), err=True, nl=False)


def show_usage_error(exception: click.ClickException, *, as_json: bool) -> SettingsError:
    """Print the usage and the mistake in the command line, and return the mistake as a SettingsError."""
    context = exception.ctx if isinstance(exception, click.UsageError) else None
    # The message becomes one line: click lists an argument's choices on several lines.
    what = " ".join(exception.format_message().split()).rstrip(".")
    remedy = f"see {context.command_path} --help" if context else "see confcom --help"
    error = SettingsError(what, error_code="command-line-refused", remedy=remedy)
    if context:
        with contextlib.suppress(OSError):
            click.echo(context.get_usage(), err=True)
    show_error(error, as_json=as_json)
    return error


@contextmanager
def explain_unexpected_failures(arguments: Sequence[str]) -> Iterator[None]:
    """Handle exceptions that no command handles: print a message without a traceback, and exit with a code.

    Click handles EPIPE (the reader closed the pipe, as with `| head`): it exits with 1 and prints no message.
    """
    try:
        yield
    except OSError as error:
        failure = _system_failure(error)
    except ModuleNotFoundError as error:
        failure = missing_extra(error) or _bug(error)
    except Exception as error:  # a bug
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        failure = _bug(error)
    else:
        return
    show_error(failure, as_json=asks_for_json(arguments))
    raise SystemExit(failure.exit_code)


def _system_failure(error: OSError) -> ConfcomError:
    why = error.strerror or str(error)
    if error.filename is not None:
        return UnavailableError(
            f"{os.fsdecode(error.filename)} cannot be used",
            error_code="path-unusable",
            why=why,
            remedy="check the path and its permissions",
        )
    if error.errno in OUTPUT_ERRNOS:
        return OutputError(
            "the output could not be written",
            error_code="output-not-writable",
            why=why,
            remedy="check the disk, the quota and the terminal that stdout goes to",
        )
    return UnavailableError("the system refused something", error_code="system-call-failed", why=why, remedy=_REPORT)


def _bug(error: Exception) -> ConfcomError:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return ConfcomError(
        "confcom has failed by a bug of its own",
        error_code="internal-error",
        why=f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno})",
        remedy=_REPORT,
    )


_REPORT = (
    f"report it, with the output of the same command with {TRACEBACK_VARIABLE}=1, and, if it is about a cluster, with "
    "what `confcom sysdump` writes"
)
