"""The option `-o/--output` of every command that prints a result, and the detection of plain output."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import click

from confcom.errors import JSON_SCHEMA

F = TypeVar("F", bound=Callable[..., object])

TEXT, SHORT, JSON = "text", "short", "json"
OUTPUT = "confcom.output"
"""The key of the chosen output format (also for errors) in the `meta` of click's contexts."""

PLAIN_TERMINALS = frozenset({"dumb", "unknown"})
"""Values of TERM for terminals without control sequences, such as an editor's terminal or a build log."""
_SHORT = re.compile(r"-[hvy]*o(?P<value>.*)", re.DOTALL)
"""A word with the option `-o`, alone or after short options that take no value (`-h`, `-v`, `-y`)."""


def output_formats(*formats: str) -> Callable[[F], F]:
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=TEXT,
        show_default=True,
        help=f"Output format: text for people{', short for failures only' * (SHORT in formats)}, json for programs.",
    )


output_option = output_formats(TEXT, JSON)


def show_result(data: Mapping[str, object], lines: Iterable[str], output: str) -> None:
    if output == JSON:
        show_json(data)
    else:
        click.echo("\n".join(lines))


def show_json(data: Mapping[str, object]) -> None:
    click.echo(json.dumps({"schema": JSON_SCHEMA, **data}, indent=2))


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Return whether a command line, even an invalid one, asks for JSON. The last -o counts, as in click."""
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


def is_plain(environ: Mapping[str, str]) -> bool:
    """Return whether TERM or a NO_COLOR that is not empty (https://no-color.org) demands plain output."""
    return environ.get("TERM") in PLAIN_TERMINALS or bool(environ.get("NO_COLOR"))
