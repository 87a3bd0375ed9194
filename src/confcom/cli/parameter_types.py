"""The parameter types on the command line: paths, hexadecimal digits, times."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
INPUT = click.Path(path_type=Path, readable=False, allow_dash=True)
"""A file or directory that the command itself opens. `-` is standard input where the command says so."""


class NamedPath(click.Path):
    """A path that is not empty. Empty text (from an unset variable, say) would mean the current directory."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 # as click has them
        super().__init__(path_type=Path, **options)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not os.fspath(value):
            self.fail("a path cannot be empty", param, ctx)
        return super().convert(value, param, ctx)


def hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a string of hexadecimal digit pairs") from error


def instant(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a time such as 2026-11-24T12:00:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
