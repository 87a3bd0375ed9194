"""The parameter types for paths on the command line."""

import os
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
