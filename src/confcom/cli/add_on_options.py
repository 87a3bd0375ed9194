"""Options and helpers that the commands for a cluster's add-on share."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from confcom.addon.cluster.kubectl import DEFAULT_NAMESPACE
from confcom.cli.interruption import JOURNAL
from confcom.cli.output_option import JSON, output_option
from confcom.cli.terminals import is_plain

if TYPE_CHECKING:
    from confcom.addon.cluster.programs import Run
    from confcom.addon.operations.apply.add_on import AddOn

P = ParamSpec("P")
R = TypeVar("R")

_LABEL = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""A namespace's name in Kubernetes (a DNS label, RFC 1123)."""
DEADLINE = 180
"""Seconds without progress: enough for a Pod to pull an image of 70 MB and to become Ready."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The programs, clocks and terminal that commands use. Tests pass another one as click's context object."""

    run: Run
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    terminal: bool
    """Whether stderr is a terminal that takes colours and a moving display."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @classmethod
    def local(cls) -> Machine:
        """Return the machine that this program runs on."""
        from confcom.addon.cluster.programs import run_program

        terminal = sys.stderr.isatty() and not is_plain(os.environ)
        return cls(run_program, time.monotonic, time.sleep, terminal)


def _namespace(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse an invalid namespace; kubectl and helm take an empty one as that of the kubeconfig's context."""
    if not _LABEL.fullmatch(value):
        rule = "a name has 1 to 63 lower-case letters, digits and hyphens, and no hyphen at either end"
        raise click.BadParameter(f"{value!r} is no namespace: {rule}", ctx, param)
    return value


def cluster_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --namespace, --context and --output to a command."""
    for option in (
        output_option,
        click.option(
            "--context",
            metavar="CONTEXT",
            default="",
            help="The context of the kubeconfig.  [default: the current one]",
        ),
        click.option(
            "-n",
            "--namespace",
            metavar="NAMESPACE",
            default=DEFAULT_NAMESPACE,
            show_default=True,
            callback=_namespace,
            help="The add-on's namespace.",
        ),
    ):
        command = option(command)
    return command


interrupted_option = click.option(
    "--interrupted",
    is_flag=True,
    help="State that the last change was interrupted, and that no helm process works on it any more.",
)
"""Without it, a change that helm may still be working on is not touched."""


def waiting_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --no-wait and --timeout to a command."""
    for option in (
        click.option(
            "--timeout",
            type=click.IntRange(min=1),
            metavar="SECONDS",
            default=DEADLINE,
            show_default=True,
            help="Fail after this time without progress.",
        ),
        click.option("--wait/--no-wait", default=True, help="Wait until every node is ready.  [default: wait]"),
    ):
        command = option(command)
    return command


def dry_run_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add --dry-run to a command."""
    text = "Run all checks, print what would change, and change nothing."
    return click.option("--dry-run", is_flag=True, help=text)(command)


def chart_option(command: Callable[P, R]) -> Callable[P, R]:
    """Add --chart to a command."""
    return click.option(
        "--chart",
        type=click.Path(exists=True, path_type=Path),
        metavar="CHART",
        help="A chart to use instead of the one in this program: a directory or an archive.",
    )(command)


def chart_options(command: Callable[P, R]) -> Callable[P, R]:
    """Add --set, --set-string, --values, --chart and --dry-run to a command."""
    for option in (
        dry_run_option,
        chart_option,
        click.option(
            "-f",
            "--values",
            "files",
            multiple=True,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            metavar="FILE",
            help="A YAML file with values for the chart; may be repeated.",
        ),
        click.option(
            "--set-string",
            "texts",
            multiple=True,
            metavar="KEY=VALUE",
            help="The same for a value that is text, but looks like a number or a boolean.",
        ),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="A value for the chart, as for helm; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def add_on(namespace: str, context: str) -> AddOn:
    """Return the add-on of the cluster that the options name; its journal is kept in click's context."""
    from confcom.addon.cluster.kubectl import Cluster, resolve_context
    from confcom.addon.operations.apply.add_on import AddOn
    from confcom.cli.progress_display import reporter

    ctx = click.get_current_context()
    machine = ctx.find_object(Machine) or Machine.local()
    cluster = resolve_context(Cluster(namespace, context), machine.run)
    display = reporter(terminal=machine.terminal)
    result = AddOn(cluster, machine.run, display, machine.clock, machine.sleep, machine.now)
    ctx.meta[JOURNAL] = result.journal
    return result


def chart_of(chart: Path | None) -> Path:
    """Return the chart that was named, or the one that comes with this program."""
    from confcom.addon.cluster.helm import chart_folder

    return chart.absolute() if chart is not None else chart_folder()


def show_result(data: Mapping[str, object], text: str, output: str) -> None:
    """Print the result on stdout, as JSON or text."""
    click.echo(json.dumps(data, indent=2) if output == JSON else text)


def start_note(*, wait: bool) -> str:
    """Return what the result's text adds if the command did not wait for the daemons."""
    return "" if wait else " Its daemons start by and by: see `confcom status`."
