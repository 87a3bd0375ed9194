"""The command `confcom inspect` prints a quote's fields for people or programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.output_option import output_option, show_result
from confcom.cli.parameter_types import INPUT
from confcom.errors import ExitCode, printable, why_and_remedy

if TYPE_CHECKING:
    from confcom.verify.inspection import Field, Inspection

HEX_LINE = 64
"""Number of hexadecimal digits per line. Longer values, such as report data and keys, are wrapped."""


EPILOG = """\b
Examples:
  confcom inspect q.bin
  confcom inspect q.bin --output json | jq -r .sections.report_body.mr_enclave
  confcom inspect td.bin --output json | jq -r .sections.td_report.mr_td
"""


@click.command(no_args_is_help=True, epilog=EPILOG)
@click.argument("quote", type=INPUT)
@output_option
@click.pass_context
def inspect(ctx: click.Context, quote: Path, output: str) -> None:
    """Show the fields of QUOTE (a file, or - for standard input; binary, hex or base64) without verifying it.

    The exit code is 5 if the input cannot be read as a quote, or only in part; the readable part is printed anyway.
    """
    from confcom.verify.files import read_quote
    from confcom.verify.inspection import inspect_quote

    inspection = inspect_quote(read_quote(quote))
    show_result(inspection.to_json(), _lines(inspection), output)
    ctx.exit(ExitCode.UNUSABLE if inspection.stopped else ExitCode.OK)


def _lines(inspection: Inspection) -> Iterator[str]:
    yield f"{inspection.size} bytes"
    for section in inspection.sections:
        yield ""
        yield click.style(section.title, bold=True)
        for field in section.fields:
            yield from _field_lines(field)
    if inspection.warnings:
        yield ""
        yield from (click.style(f"warning: {printable(warning)}", fg="yellow") for warning in inspection.warnings)
    if inspection.stopped:
        yield ""
        yield click.style(f"stopped: {printable(inspection.stopped.what)}", fg="red")
        yield from why_and_remedy(inspection.stopped.why, inspection.stopped.remedy)


def _field_lines(field: Field) -> Iterator[str]:
    value = field.value
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, list):
        text = printable("; ".join(value)) or "none"
    else:
        text = printable(str(value))
    note = f"  ({printable(field.note)})" if field.note else ""
    is_hex = len(text) > HEX_LINE and set(text) <= set("0123456789abcdef")
    first, *rest = [text[i : i + HEX_LINE] for i in range(0, len(text), HEX_LINE)] if is_hex else [text]
    yield f"  {field.label + ':':30}{first}" + ("" if rest else note)
    for number, line in enumerate(rest, start=1):
        yield " " * 32 + line + (note if number == len(rest) else "")
