"""`-o/--output`, which every command has that prints a result, and what the command line says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click

TEXT, JSON = "text", "json"
OUTPUT = "confcom.output"
"""Where click's contexts keep the chosen format, for errors."""

_SHORT = re.compile(r"-[hy]*o(?P<value>.*)", re.DOTALL)
"""The short option, alone or behind those that take no value."""


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
        elif word == "--output":
            expected = True
        elif word.startswith("--output="):
            chosen = word.partition("=")[2]
        elif short := _SHORT.fullmatch(word):
            chosen, expected = short["value"], not short["value"]
    return chosen == JSON
