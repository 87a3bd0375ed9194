"""`confcom demo`: opens a stage, tells the story on it, and leaves nothing behind."""

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
    from confcom.playground.story.interrupts import Interrupts
    from confcom.playground.story.report import StepReport, StoryReport
    from confcom.playground.story.scene import DemoContext

PROGRESS_SECONDS = 2.0
"""A step that takes longer says so."""

WATCH_SECONDS = 0.5
"""How often a kept demo looks whether its daemons live."""

MODES = ("auto", "root", "user-namespace", "no-namespace")


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything up afterwards, and say what to try; Ctrl-C ends it.")
@click.option(
    "--mode", type=click.Choice(MODES), default="auto", show_default=True, help="How containers are isolated."
)
@click.option(
    "--dir",
    "folder",
    type=NamedPath(),
    help="A short, new folder for it (default: a temporary one); emptied at the end, whatever is in it.",
)
@output_option
def demo(*, keep: bool, mode: str, folder: Path | None, output: str) -> None:
    """The whole story on this machine, without SGX hardware.

    A simulated SGX platform, a node with its device plugin and quote helper, a Job that gets EPC and a quote, and a
    relying party that verifies it. Each step says what happened, how long it took and which command repeats it.
    Exits 0 only if every step held. Nothing of the machine is changed.

    \b
    Examples:
      confcom demo
      confcom demo --keep                 leave it up, to point your own program at it
      confcom demo --output json | jq .ok
      confcom demo --mode no-namespace    containers as plain processes
    """
    from confcom.playground.modes import choose_mode
    from confcom.playground.story.interrupts import SIGNALLED, SIGNALS, Interrupts

    interrupts = Interrupts()
    interrupts.install()
    chosen = choose_mode(mode)
    text = output == TEXT
    if text:
        click.echo(f"confcom demo: one node without Kubernetes and without SGX. Mode: {chosen.mode} ({chosen.reason})")
    from confcom.playground.story.story import run

    try:
        with ExitStack() as stack:
            with interrupts.held():
                context = _open_context(stack, folder, str(chosen.mode), dict(os.environ), interrupts)
            report = run(context, Storyteller(interrupts, enabled=text))
            _conclude(report, keep=keep, text=text)
            if keep:
                _keep(context, ok=report.ok, enabled=text)
    except SystemExit as ended:
        if text and ended.code in {SIGNALLED + number for number in SIGNALS}:
            click.echo("Stopped; nothing is left.", err=True)
        raise
    if not report.ok:
        sys.exit(ExitCode.FAILED)


def _conclude(report: StoryReport, *, keep: bool, text: bool) -> None:
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
    from confcom.playground.client import NodeClient
    from confcom.playground.examples_folder import examples_folder
    from confcom.playground.story.commands import Commands
    from confcom.playground.story.guardian import MARK_VARIABLE
    from confcom.playground.story.scene import DemoContext
    from confcom.playground.story.stage import ProcessGroup

    place, ours = _place(folder)
    inherited = {name: value for name, value in environment.items() if not name.startswith(("CONFCOM_", "SGX_"))}
    commands = Commands(inherited | {MARK_VARIABLE: str(place)}, interrupts=interrupts)
    processes = stack.enter_context(ProcessGroup(place, commands, owns_folder=ours))
    node = stack.enter_context(NodeClient(place))
    return DemoContext(processes=processes, node=node, mode_flag=mode, random=os.urandom, manifests=examples_folder())


def _place(folder: Path | None) -> tuple[Path, bool]:
    """The demo's folder, and whether it is the demo's to remove."""
    from confcom.playground.layout import Layout

    if folder is None:
        place = Path(tempfile.mkdtemp(prefix="confcom-", dir="/tmp"))
        place.chmod(0o755)
        return place, True
    place = folder.absolute()
    Layout(place).require_short()
    try:
        if place.is_dir():
            if any(place.iterdir()):
                raise SettingsError(
                    f"{folder} is not empty",
                    why="the demo makes a platform and a node in it, and empties it at the end",
                    remedy="name a new folder, or leave --dir out",
                )
            return place, False
        place.mkdir(parents=True, mode=0o755)
    except OSError as error:
        raise SettingsError(
            f"{folder} cannot be the demo's folder", why=error.strerror or str(error), remedy="name another with --dir"
        ) from error
    return place, True


class Storyteller:
    """Prints the story as it happens."""

    def __init__(self, interrupts: Interrupts, *, enabled: bool) -> None:
        self._interrupts = interrupts
        self._enabled = enabled
        self._ticker: threading.Timer | None = None

    def begin(self, number: int, title: str) -> None:
        """The step's title, at once: some steps take a second."""
        if self._enabled:
            click.echo(f"\n{click.style(f'{number}. {title}', bold=True)}")
            # Held, because a thread that is interrupted at its start complains on stderr.
            with self._interrupts.held():
                self._tick(time.monotonic())

    def _tick(self, began: float) -> None:
        self._ticker = threading.Timer(PROGRESS_SECONDS, self._still_at_it, (began,))
        self._ticker.daemon = True
        self._ticker.start()

    def _still_at_it(self, began: float) -> None:
        click.echo(f"   ... still at it after {time.monotonic() - began:.0f} s", err=True)
        self._tick(began)

    def end(self, report: StepReport) -> None:
        """What happened, the time, and the commands."""
        if self._ticker is not None:
            self._ticker.cancel()
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


def _keep(context: DemoContext, *, ok: bool, enabled: bool) -> None:
    """Say what to try, and wait for Ctrl-C or the end of a daemon."""
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
