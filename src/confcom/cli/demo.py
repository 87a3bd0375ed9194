"""`confcom demo`: opens a stage, tells the story on it, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from confcom.errors import ExitCode, SettingsError

if TYPE_CHECKING:
    from confcom.playground.story.interrupts import Interrupts
    from confcom.playground.story.report import StepReport
    from confcom.playground.story.scene import Scene

MODES = ("auto", "root", "user-namespace", "no-namespace")


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything up afterwards, and say what to try; Ctrl-C ends it.")
@click.option(
    "--mode", type=click.Choice(MODES), default="auto", show_default=True, help="How containers are isolated."
)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="A short, new folder for it (default: a temporary one)."
)
@click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or for programs.",
)
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
    from confcom.playground.story.interrupts import Interrupts

    interrupts = Interrupts()
    interrupts.install()
    chosen = choose_mode(mode)
    text = output == "text"
    if text:
        click.echo(f"confcom demo: one node without Kubernetes and without SGX. Mode: {chosen.mode} ({chosen.reason})")
    from confcom.playground.story.story import tell

    with ExitStack() as stack:
        with interrupts.held():
            scene = _open_scene(stack, folder, str(chosen.mode), dict(os.environ), interrupts)
        report = tell(scene, Storyteller(enabled=text))
        if not text:
            click.echo(json.dumps(report.as_data(), indent=2))
        elif report.ok:
            click.echo(f"\nEvery step held. {report.seconds:.1f} s.")
            if not keep:
                click.echo("Its folder is gone; with --keep it stays up, and the commands above can be repeated.")
        if keep and report.ok:
            _keep(scene, enabled=text)
    if not report.ok:
        sys.exit(ExitCode.FAILED)


def _open_scene(
    stack: ExitStack, folder: Path | None, mode: str, environment: Mapping[str, str], interrupts: Interrupts
) -> Scene:
    from confcom.playground.client import NodeClient
    from confcom.playground.examples_folder import examples_folder
    from confcom.playground.story.commands import Commands
    from confcom.playground.story.scene import Scene
    from confcom.playground.story.stage import Stage

    if folder is not None and folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} is not empty",
            why="the demo makes a platform and a node in it, and removes what it made",
            remedy="name a new folder, or leave --dir out",
        )
    place = folder.absolute() if folder is not None else Path(tempfile.mkdtemp(prefix="confcom-", dir="/tmp"))
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o755)
    inherited = {name: value for name, value in environment.items() if not name.startswith(("CONFCOM_", "SGX_"))}
    commands = Commands(confcom=(sys.executable, "-m", "confcom"), environment=inherited, interrupts=interrupts)
    stage = stack.enter_context(Stage(place, commands, owns_folder=True))
    node = stack.enter_context(NodeClient(place))
    return Scene(stage=stage, node=node, mode_flag=mode, random=os.urandom, manifests=examples_folder())


class Storyteller:
    """Prints the story as it happens."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled

    def begin(self, number: int, title: str) -> None:
        """The step's title, at once: some steps take a second."""
        if self._enabled:
            click.echo(f"\n{click.style(f'{number}. {title}', bold=True)}")

    def end(self, report: StepReport) -> None:
        """What happened, the time, and the commands."""
        if not self._enabled:
            return
        for line in report.happened:
            click.echo(f"   {line}")
        for command in report.commands:
            click.echo(click.style(f"   $ {command}", fg="cyan"))
        mark = click.style("held", fg="green") if report.ok else click.style("DID NOT HOLD", fg="red", bold=True)
        click.echo(f"   {mark} after {report.seconds:.2f} s")
        if report.error is not None:
            click.echo(f"Error in step {report.number} ({report.title}): {report.error['what']}", err=True)
            for word, key in (("why", "why"), ("do", "remedy")):
                if report.error[key]:
                    click.echo(f"  {word}: {report.error[key]}", err=True)


def _keep(scene: Scene, *, enabled: bool) -> None:
    """Say what to try, and wait for Ctrl-C."""
    socket, trust = scene.layout.aesm_socket, scene.trust
    if enabled:
        click.echo(f"""
Everything stays up until Ctrl-C. Three things to try, in another terminal:

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
      confcom verify mine.bin --root {trust}/root.pem --collateral {trust}/collateral --allow-simulated""")
    signal.pause()
