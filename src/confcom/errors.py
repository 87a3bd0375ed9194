"""Base classes of all errors, and exit codes. Every error says what happened, why, and what to do about it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum

MAX_FOREIGN_CHARACTERS = 500
"""Maximum number of characters that an error quotes from another program's message."""

JSON_SCHEMA = 1
"""The first member, `schema`, of every JSON object that a command prints; docs/reference/json.md has its rules."""

SIGNAL_EXIT_BASE = 128
"""If a signal ends a program, its exit code is this number plus the signal's number (shells, env, runtimes)."""


class ExitCode(IntEnum):
    """Exit codes of all commands, one per kind of outcome, so that scripts need not parse messages."""

    OK = 0
    FAILED = 1
    """An operation failed; the message says which operation."""
    USAGE = 2
    """The command line is invalid (click and argparse use the same code)."""
    NOT_AUTHORISED = 3
    """verify: the quote is authentic, but does not meet the policy (or the policy demands nothing)."""
    NOT_AUTHENTIC = 4
    """verify: the quote is not authentic."""
    UNUSABLE = 5
    """The input cannot be used: it is not a quote, collateral is missing, or a file is malformed."""
    UNAVAILABLE = 6
    """A service, a file or a device that the command needs is missing or does not answer."""
    REFUSED = 7
    """A check before a change to a cluster failed, or the user did not confirm; nothing was changed."""
    NOT_READY = 8
    """The add-on has not (or not yet) reached the requested state; the message says where and why."""
    RUN_FAILED = 125
    """run: confcom could not run the program (as env and timeout report it)."""
    INTERRUPTED = 130
    """Ctrl-C ended the command; shells report the same exit code."""


class ConfcomError(Exception):
    """Base class of all errors of this package.

    `exit_code` is the exit code of a command that ends with the error.

    Args:
        what: what happened, in one sentence without a full stop.
        error_code: the stable code for programs; by default the code of the error's class.
        why: the cause, as far as it is known.
        remedy: what the reader can do next.
    """

    error_code: str = "failed"
    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, *, error_code: str = "", why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.error_code = error_code or self.error_code
        self.what = what
        self.why = why
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        """Make every error picklable, whatever parameters its constructor has."""
        return _restored, (type(self), self.args, self.__dict__)

    @property
    def details(self) -> dict[str, object]:
        """The members beside `error` in the JSON that a failed command prints instead of its result."""
        return {}

    def __str__(self) -> str:
        """Join `what`, `why` and `remedy` into one line for logs."""
        parts = [self.what]
        if self.why:
            parts.append(f"because {self.why}")
        line = ", ".join(parts)
        return f"{line}; {self.remedy}" if self.remedy else line


def _restored(kind: type[ConfcomError], args: tuple[object, ...], attributes: dict[str, object]) -> ConfcomError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class MalformedError(ConfcomError):
    """Bytes or text do not have the required format and were not used."""

    error_code = "malformed"
    exit_code = ExitCode.UNUSABLE


class SettingsError(ConfcomError):
    """An argument, a flag, an environment variable or a file asks for something impossible."""

    error_code = "settings"
    exit_code = ExitCode.USAGE


class WrongTypeError(SettingsError, TypeError):
    """An argument of the public interface has the wrong type.

    The error is also a TypeError.
    """

    error_code = "wrong-type"

    def __init__(self, name: str, expected: str, value: object) -> None:
        super().__init__(f"{name} must be {expected}, not {type(value).__name__}", remedy=f"pass {expected}")


class WrongValueError(SettingsError, ValueError):
    """An argument of the public interface has an invalid value.

    The error is also a ValueError.
    """

    error_code = "wrong-value"


class UnavailableError(ConfcomError):
    """A required service, file or device is missing, or does not exist yet."""

    error_code = "unavailable"
    exit_code = ExitCode.UNAVAILABLE


class OutputError(ConfcomError):
    """A result exists, but cannot be written to its destination."""

    error_code = "output"


@contextlib.contextmanager
def writing(failure: str, *, error_code: str) -> Iterator[None]:
    """Turn an OSError into an OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            failure,
            error_code=error_code,
            why=error.strerror or str(error),
            remedy="name a place that you may write to, on a disk that is not full",
        ) from error


def explain(error: ConfcomError) -> str:
    """Format an error for a terminal: one line each for what, why and remedy, with unprintable characters escaped."""
    return "\n".join([f"Error: {printable(error.what)}", *why_and_remedy(error.why, error.remedy), ""])


def why_and_remedy(why: str, remedy: str) -> list[str]:
    """Return the lines for a terminal that follow what happened."""
    return [printable(f"  {label}{text}") for label, text in (("why: ", why), ("do:  ", remedy)) if text]


def as_data(error: ConfcomError) -> dict[str, str | int]:
    """Return the members that describe `error` in the JSON of every command."""
    return {
        "code": error.error_code,
        "what": error.what,
        "why": error.why,
        "do": error.remedy,
        "exit_code": int(error.exit_code),
    }


def shortened(foreign: str) -> str:
    """Drop the middle of another program's long message; its start names the failure, its end the cause."""
    half = MAX_FOREIGN_CHARACTERS // 2
    return foreign if len(foreign) <= 2 * half else f"{foreign[:half]} ... {foreign[-half:]}"


def printable(text: str) -> str:
    r"""Return untrusted text in a form that is safe on a terminal: unprintable characters become backslash escapes.

    Certificates, quotes, file names and answers of services may contain line feeds, terminal control sequences or
    characters that change the direction of writing; all of these could forge lines of a report. Printable
    characters (`str.isprintable`: letters of every script, and the space) are kept. Backslashes are kept too,
    because people read the result, and no program parses it.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
