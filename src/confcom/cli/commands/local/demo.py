"""The command `confcom demo`: starts a platform, a node and its daemons, runs the demo's steps, and cleans up."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.cli.output_option import TEXT, output_option
from confcom.cli.path_type import NamedPath
from confcom.errors import ExitCode, SettingsError, printable

if TYPE_CHECKING:
    from confcom.playground.demo.context import DemoContext
    from confcom.playground.demo.interrupts import Interrupts
    from confcom.playground.demo.sequence import DemoReport, StepReport

PROGRESS_SECONDS = 2.0
"""A step that takes longer prints a progress line, and another after each such interval."""

WATCH_SECONDS = 0.5
"""Interval at which `--keep` checks that the daemons are alive."""

MODES = ("auto", "root", "user-namespace", "no-namespace")


@click.command()
@click.option(
    "--keep", is_flag=True, help="Keep everything running at the end, and print commands to try; Ctrl-C stops it."
)
@click.option(
    "--mode", type=click.Choice(MODES), default="auto", show_default=True, help="How containers are isolated."
)
@click.option(
    "--dir",
    "folder",
    type=NamedPath(),
    help="A new or empty directory with a short path; it is emptied at the end.  [default: a temporary one]",
)
@output_option
def demo(*, keep: bool, mode: str, folder: Path | None, output: str) -> None:
    """Run the whole sequence on this machine, without SGX hardware.

    The demo creates a simulated SGX platform, starts a node with its device plugin and quote helper, and runs a Job
    that gets EPC and a quote. A relying party then verifies the quote. Each step prints what happened, how long it took
    and which command repeats it. The exit code is 0 only if every step succeeded. The machine itself is not changed.

    \b
    Examples:
      confcom demo
      confcom demo --keep                 keep it running for your own program
      confcom demo --output json | jq .ok
      confcom demo --mode no-namespace    containers as plain processes
    """
    from confcom.playground.demo.interrupts import SIGNALLED, SIGNALS, Interrupts
    from confcom.playground.runtime.modes import choose_mode

    interrupts = Interrupts()
    interrupts.install()
    chosen = choose_mode(mode)
    text = output == TEXT
    if text:
        click.echo(f"confcom demo: one node without Kubernetes and without SGX. Mode: {chosen.mode} ({chosen.reason})")
    from confcom.playground.demo.sequence import run

    try:
        with ExitStack() as stack:
            with interrupts.held():
                context = _open_context(stack, folder, str(chosen.mode), dict(os.environ), interrupts)
            printer = StepPrinter(interrupts, enabled=text)
            report = run(context, begin=printer.begin, end=printer.end)
            _print_result(report, keep=keep, text=text)
            if keep:
                _keep_running(context, ok=report.ok, enabled=text)
    except SystemExit as ended:
        if text and ended.code in {SIGNALLED + number for number in SIGNALS}:
            click.echo("Stopped; nothing is left.", err=True)
        raise
    if not report.ok:
        sys.exit(ExitCode.FAILED)


def _print_result(report: DemoReport, *, keep: bool, text: bool) -> None:
    if not text:
        click.echo(json.dumps(report.as_data(), indent=2))
    elif report.ok:
        click.echo(f"\nEvery step held. {report.seconds:.1f} s.")
        if not keep:
            click.echo("Nothing of it is left. With --keep it stays up, and its commands can be tried again.")
        if shutil.which("confcom") is None:
            click.echo(f"To have `confcom` on your PATH: . {Path(sys.executable).parent}/activate")


def _open_context(
    stack: ExitStack, folder: Path | None, mode: str, environment: Mapping[str, str], interrupts: Interrupts
) -> DemoContext:
    from confcom.playground.api.client import NodeClient
    from confcom.playground.demo.commands import MARK_VARIABLE, Commands
    from confcom.playground.demo.context import DemoContext
    from confcom.playground.demo.processes import ProcessGroup

    demo_folder, owned = _demo_folder(folder)
    inherited = {name: value for name, value in environment.items() if not name.startswith(("CONFCOM_", "SGX_"))}
    commands = Commands(inherited | {MARK_VARIABLE: str(demo_folder)}, interrupts=interrupts)
    processes = stack.enter_context(ProcessGroup(demo_folder, commands, owns_folder=owned))
    node = stack.enter_context(NodeClient(demo_folder))
    return DemoContext(processes=processes, node=node, mode_flag=mode, random=os.urandom)


def _demo_folder(folder: Path | None) -> tuple[Path, bool]:
    """Return the demo's folder, and whether the demo made it and removes it."""
    from confcom.playground.layout import Layout

    if folder is None:
        path = Path(tempfile.mkdtemp(prefix="confcom-", dir="/tmp"))
        path.chmod(0o755)
        return path, True
    path = folder.absolute()
    Layout(path).require_short()
    try:
        if path.is_dir():
            if any(path.iterdir()):
                raise SettingsError(
                    f"{folder} is not empty",
                    error_code="folder-not-empty",
                    why="the demo makes a platform and a node in it, and empties it at the end",
                    remedy="name a new folder, or leave --dir out",
                )
            return path, False
        path.mkdir(parents=True, mode=0o755)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be the demo's folder",
            error_code="folder-not-usable",
            why=error.strerror or str(error),
            remedy="name another with --dir",
        ) from error
    return path, True


class StepPrinter:
    """Prints the demo's steps as they run."""

    def __init__(self, interrupts: Interrupts, *, enabled: bool) -> None:
        self._interrupts = interrupts
        self._enabled = enabled
        self._timer: threading.Timer | None = None

    def begin(self, number: int, title: str) -> None:
        """Print the step's title at its start, since some steps take a second."""
        if self._enabled:
            click.echo(f"\n{click.style(f'{number}. {title}', bold=True)}")
            # Signals are held, because starting a thread writes to stderr if a signal interrupts it.
            with self._interrupts.held():
                self._start_timer(time.monotonic())

    def _start_timer(self, began: float) -> None:
        self._timer = threading.Timer(PROGRESS_SECONDS, self._print_progress, (began,))
        self._timer.daemon = True
        self._timer.start()

    def _print_progress(self, began: float) -> None:
        click.echo(f"   ... still at it after {time.monotonic() - began:.0f} s", err=True)
        self._start_timer(began)

    def end(self, report: StepReport) -> None:
        """Print what happened, the commands, the result and the time."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._enabled:
            return
        for line in report.happened:
            click.echo(f"   {line}")
        for command in report.commands:
            click.echo(click.style(f"   $ {command}", fg="cyan"))
        mark = click.style("held", fg="green") if report.ok else click.style("DID NOT HOLD", fg="red", bold=True)
        click.echo(f"   {mark} after {report.seconds:.2f} s")
        if report.error is not None:
            click.echo(printable(f"Error in step {report.number} ({report.title}): {report.error['what']}"), err=True)
            for word in ("why", "do"):
                if report.error[word]:
                    click.echo(printable(f"  {word}: {report.error[word]}"), err=True)


def _keep_running(context: DemoContext, *, ok: bool, enabled: bool) -> None:
    """Print what to try, and wait until Ctrl-C or, if every step held, until a daemon ends."""
    if enabled:
        click.echo(_advice(context) if ok else f"\n{context.folder} stays until Ctrl-C; its logs are in logs/.")
    while True:
        time.sleep(WATCH_SECONDS)
        if ok:
            for running in context.processes.running.values():
                running.require_alive()


def _advice(context: DemoContext) -> str:
    socket, trust = context.layout.aesm_socket, context.trust
    return f"""
Everything stays up until Ctrl-C, which empties {context.folder}, whatever is in it.
Three things to try, in another terminal and another folder:

 1. Your own program gets a quote, in six lines of Python ({sys.executable}):
      from confcom.client import AesmClient
      from confcom.simulation.enclave import SimulatedEnclave
      client = AesmClient("{socket}")
      target = client.init_quote().target_info
      report = SimulatedEnclave.from_name("mine").create_report(target, b"my challenge".ljust(64, b"\\0"))
      open("mine.bin", "wb").write(client.get_quote(report).quote)

 2. Your own container gets one, through Intel's libsgx-quote-ex (an enclave built in the SDK's simulation mode):
      docker run --rm -e SGX_AESM_ADDR=1 -v {socket.parent}:/var/run/aesmd YOUR_IMAGE

 3. Whoever relies on it checks it:
      confcom verify mine.bin --root {trust}/root.pem --collateral {trust}/collateral --allow-simulated
    (exit code 3: authentic, but you did not say which enclave you expect; --mrenclave does)"""
