"""`-o/--output`, which every command has that prints a result, and what the command line says of it."""

from __future__ import annotations

from collections.abc import Sequence

import click

TEXT, JSON = "text", "json"
OUTPUT = "confcom.output"
"""Where click's contexts keep the chosen format, for errors."""


def _remembered(ctx: click.Context, param: click.Parameter, value: str) -> str:
    del param
    ctx.meta[OUTPUT] = value
    return value


output_option = click.option(
    "-o",
    "--output",
    type=click.Choice([TEXT, JSON]),
    default=TEXT,
    show_default=True,
    is_eager=True,  # so that mistakes in the other options are told in this format
    callback=_remembered,
    help="For people, or for programs.",
)


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether a command line that cannot be parsed asks for JSON. The last one counts, as for click."""
    chosen, expected = "", False
    for word in arguments:
        if expected:
            chosen, expected = word, False
        elif word == "--":
            break
        elif word in {"-o", "--output"}:
            expected = True
        elif word.startswith("--output="):
            chosen = word.partition("=")[2]
        elif word.startswith("-o"):
            chosen = word.removeprefix("-o")
    return chosen == JSON
