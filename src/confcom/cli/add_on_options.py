"""Options and helper functions that the commands for a cluster's add-on share."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from confcom.cli.output_option import JSON, output_option, show_result
from confcom.cli.parameter_types import PATH
from confcom.kubernetes.kubectl_flags import Login
from confcom.kubernetes.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from confcom.addon.change import Changed
    from confcom.addon.command import AddOn
    from confcom.addon.helm import RunsHelm
    from confcom.addon.login import Cluster, OpensCluster

P = ParamSpec("P")
R = TypeVar("R")

_LABEL = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""The pattern of a Kubernetes namespace's name (a DNS label, RFC 1123)."""
TIMEOUT = 180
"""Default of --timeout in seconds, enough for a Pod to pull an image of 70 MB and to become Ready."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The programs and clocks that commands use; tests replace them by means of click's context object."""

    open_cluster: OpensCluster
    run_helm: RunsHelm
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def present() -> datetime:
    """Return the machine's present time, also if no cluster's packages (the extra `cli`) are installed."""
    found = click.get_current_context().find_object(Machine)
    return found.now() if found else datetime.now(UTC)


def namespace_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse invalid or empty text, since empty text makes kubectl and helm use the context's namespace."""
    if not _LABEL.fullmatch(value):
        rule = "a name has 1 to 63 lower-case letters, digits and hyphens, and no hyphen at either end"
        raise click.BadParameter(f"{value!r} is no namespace: {rule}", ctx, param)
    return value


def cluster_options(
    command: Callable[..., R], output: Callable[[Callable[..., R]], Callable[..., R]] = output_option
) -> Callable[..., R]:
    """Add --namespace, the option `output`, and the options for a cluster and a user, which form a `Login`."""

    @functools.wraps(command)
    def with_login(
        *,
        context: str,
        kubeconfig: Path | None,
        user: str,
        groups: tuple[str, ...],
        **rest: Any,  # noqa: ANN401 # as click
    ) -> R:
        return command(login=Login(context, str(kubeconfig or ""), user, groups), **rest)

    decorated: Callable[..., R] = with_login
    for option in (
        output,
        click.option("--as-group", "groups", metavar="GROUP", multiple=True, help="A group to impersonate."),
        click.option("--as", "user", metavar="USER", default="", help="A user to impersonate, as for kubectl."),
        click.option("--kubeconfig", type=PATH, metavar="FILE", help="The kubeconfig.  [default: as for kubectl]"),
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
            callback=namespace_name,
            help="The add-on's namespace.",
        ),
    ):
        decorated = option(decorated)
    return decorated


def interrupted_by_signals(command: Callable[P, R]) -> Callable[P, R]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that the Lease is freed and the state is printed."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        if threading.current_thread() is not threading.main_thread():
            return command(*args, **kwargs)  # other threads cannot set signal handlers
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        for number, handler in previous.items():
            if handler is not signal.SIG_IGN:  # nohup
                signal.signal(number, _raise_keyboard_interrupt)
        try:
            return command(*args, **kwargs)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    return wrapped


def _raise_keyboard_interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    if number == signal.SIGHUP:  # both shell and kernel send SIGHUP when a terminal closes
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


timeout_option = click.option(
    "--timeout",
    type=click.IntRange(min=1),
    metavar="SECONDS",
    default=TIMEOUT,
    show_default=True,
    help="Fail after this time without progress.",
)


def waiting_options(command: Callable[P, R]) -> Callable[P, R]:
    wait = click.option("--wait/--no-wait", default=True, help="Wait until every node is ready.  [default: wait]")
    return wait(timeout_option(command))


def chart_options(command: Callable[P, R]) -> Callable[P, R]:
    for option in (
        click.option("--dry-run", is_flag=True, help="Run all checks, print what would change, and change nothing."),
        click.option(
            "--chart",
            type=click.Path(exists=True, path_type=Path),
            metavar="CHART",
            help="A chart to use instead of the one in this program: a directory or an archive.",
        ),
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


@contextlib.contextmanager
def opened(login: Login, namespace: str) -> Iterator[AddOn]:
    """Log in to the cluster, and print its name."""
    from confcom.addon.command import AddOn
    from confcom.addon.helm import Helm, run_helm
    from confcom.addon.login import open_cluster
    from confcom.cli.progress_display import LineReporter

    found = click.get_current_context().find_object(Machine)
    used = found or Machine(open_cluster, run_helm, time.monotonic, time.sleep)
    display = LineReporter(used.clock)
    with used.open_cluster(login, namespace) as cluster:
        display.say(f"cluster: {cluster.described}")
        yield AddOn(cluster, Helm(cluster, used.run_helm), display, used.clock, used.sleep, used.now)


def chart_of(chart: Path | None) -> Path:
    from confcom.addon.helm import chart_folder

    return chart.absolute() if chart is not None else chart_folder()


def show_change(cluster: Cluster, done: Changed, how: str, output: str, *, wait: bool, then: str = "") -> None:
    """Print the result of a change, and the next command; a dry run's text is not printed again."""
    if done.would_change is None or output == JSON:
        later = "" if wait else " Its daemons start by and by: see `confcom status`."
        lines = [f"{how} (revision {done.revision}).{later}", *([f"now: {then}"] if wait and then else [])]
        show_result({"cluster": cluster.to_json(), **done.to_json()}, lines, output)
