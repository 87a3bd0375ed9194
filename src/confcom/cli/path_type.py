"""The parameter type for paths on the command line."""

import os
from pathlib import Path
from typing import Any

import click


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
