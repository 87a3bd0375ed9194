"""The one error tree: every error says what happened, why, and what to do about it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command, by kind of outcome, so that scripts need not read prose."""

    OK = 0
    FAILED = 1
    """Something that should have worked did not; the message says what."""
    USAGE = 2
    """The command line itself is wrong (click's and argparse's own code)."""
    NOT_AUTHORISED = 3
    """verify: authentic, but not what the policy asks for (or the policy asks for nothing)."""
    NOT_AUTHENTIC = 4
    """verify: the quote is not authentic."""
    UNUSABLE = 5
    """The input cannot be used: not a quote, no collateral, a malformed file."""
    UNAVAILABLE = 6
    """A service, a file or a device that the command needs is not there or does not answer."""
    REFUSED = 7
    """A check before a change to a cluster failed, or nobody consented; nothing was changed."""
    NOT_READY = 8
    """The cluster's add-on is not, or not yet, as it was asked to be; the message says where and why."""
    INTERRUPTED = 130
    """Ended by Ctrl-C, as shells report it."""


class ConfcomError(Exception):
    """Root of the tree.

    Args:
        what: what happened, in one sentence without a full stop.
        why: the cause, as far as it is known.
        remedy: what the reader can do next.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, what: str, *, why: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.remedy = remedy

    def __str__(self) -> str:
        """All three parts on one line, for logs."""
        parts = [self.what]
        if self.why:
            parts.append(f"because {self.why}")
        line = ", ".join(parts)
        return f"{line}; {self.remedy}" if self.remedy else line


class MalformedError(ConfcomError):
    """Bytes or text that do not follow their format; nothing was done with them."""

    exit_code = ExitCode.UNUSABLE


class SettingsError(ConfcomError):
    """A flag, an environment variable or a manifest asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class UnavailableError(ConfcomError):
    """A service, a file or a device that is needed is not there (yet)."""

    exit_code = ExitCode.UNAVAILABLE


class OutputError(ConfcomError):
    """What was asked for exists, and cannot be written to where it was to go."""


def explain(error: ConfcomError) -> str:
    """What happened, why, and what to do, a line each, fit for a terminal whatever the texts hold."""
    lines = [f"Error: {printable(error.what)}"]
    if error.why:
        lines.append(f"  why: {printable(error.why)}")
    if error.remedy:
        lines.append(f"  do:  {printable(error.remedy)}")
    return "\n".join(lines) + "\n"


def as_data(error: ConfcomError) -> dict[str, str | int]:
    """The members of `error` in every command's JSON."""
    return {"what": error.what, "why": error.why, "do": error.remedy, "exit_code": int(error.exit_code)}


def printable(text: str) -> str:
    r"""Text from elsewhere, fit for a terminal: everything that is not printable is shown as its backslash escape.

    Certificates, quotes, file names and answers of services may hold line feeds, terminal control sequences or
    characters that turn the direction of writing, and with these could forge lines of a report. What is printable
    (`str.isprintable`: letters of every script, and the space) stays; so does the backslash itself, because this is
    for reading and not for parsing.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
