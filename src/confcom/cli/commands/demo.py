"""The command `confcom demo` runs the demo's steps, prints them, and cleans up."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from confcom.cli.output_option import TEXT, output_option, show_json
from confcom.cli.path_type import NamedPath
from confcom.errors import ExitCode, printable

if TYPE_CHECKING:
    from confcom.demo.story import Demo, DemoReport, StepReport

WATCH_SECONDS = 0.5
"""Seconds between two checks by `confcom demo --keep` that the daemons are alive."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SIGNALLED = 128
"""If a signal ends a program, shells report this number plus the signal's number as the exit code."""

MODES = ("auto", "root", "user-namespace", "no-namespace")

NEXT = """
Where to go next:
  a quote for your own program   confcom demo --keep, and docs/tutorial/first-quote.md
  on a cluster, without SGX      docs/how-to/cluster-without-sgx.md
  what all this is               docs/explanation/architecture.md"""


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Print more details, and the commands that each step ran.")
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
def demo(*, verbose: bool, keep: bool, mode: str, folder: Path | None, output: str) -> None:
    """Run the whole sequence on this machine, without SGX hardware.

    The demo creates a simulated SGX platform, starts a node with its device plugin and quote helper, and runs the Job
    of examples/job.yaml, which gets enclave memory and a quote. A relying party then verifies the quote. The exit code
    is 0 only if every step succeeded. The machine itself is not changed.

    \b
    Examples:
      confcom demo
      confcom demo -v                     with the commands of each step
      confcom demo --keep                 keep it running for your own program
      confcom demo --output json | jq .ok
      confcom demo --mode no-namespace    containers as plain processes
    """
    if output == TEXT:
        click.echo("confcom demo: confidential computing on one node, without Kubernetes and without SGX hardware")
    printer = StepPrinter(enabled=output == TEXT, verbose=verbose or keep)
    outcome = asyncio.run(_until_signal(_run(mode, folder, printer, keep=keep)))
    if isinstance(outcome, signal.Signals):
        if output == TEXT:
            click.echo("Stopped; nothing is left.", err=True)
        sys.exit(SIGNALLED + outcome)
    if not outcome.ok:
        sys.exit(ExitCode.FAILED)


async def _until_signal(main: Coroutine[Any, Any, DemoReport]) -> DemoReport | signal.Signals:
    """Run `main` and return its result, or the first signal, which cancels `main`. Ignore later signals."""
    task = asyncio.create_task(main)
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()

    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        return received[0]


async def _run(mode: str, folder: Path | None, printer: StepPrinter, *, keep: bool) -> DemoReport:
    from confcom.demo.processes import prepare_folder
    from confcom.demo.story import open_demo, run

    path, owned = prepare_folder(folder)
    async with open_demo(path, mode, os.environ, owns_folder=owned) as opened:
        report = await run(opened, begin=printer.begin, end=printer.end)
        printer.result(report)
        if keep and printer.enabled:
            click.echo(_advice(opened) if report.ok else f"\n{path} stays until Ctrl-C; its logs are in logs/.")
        while keep:
            await asyncio.sleep(WATCH_SECONDS)
            if report.ok:
                opened.processes.require_alive()
    if not printer.enabled:
        return report
    if not report.ok:
        click.echo("`confcom demo --keep` keeps the daemons and their logs for a look.", err=True)
    else:
        click.echo(f"Nothing is left on this machine.\n{NEXT}")
        if shutil.which("confcom") is None:
            click.echo(f"To have `confcom` on your PATH: . {Path(sys.executable).parent}/activate")
    return report


@dataclass(frozen=True, slots=True)
class StepPrinter:
    """Prints the demo's steps while they run. Unless `enabled`, prints only the final report, as JSON."""

    enabled: bool
    verbose: bool

    def begin(self, report: StepReport) -> None:
        if self.enabled:
            click.echo(f"\n{click.style(f'{report.number}. {report.title}', bold=True)}")

    def end(self, report: StepReport) -> None:
        if not self.enabled:
            return
        for line in report.lines:
            if self.verbose or not line.detail:
                click.echo(f"   {line.text}")
        for command in report.commands if self.verbose else ():
            click.echo(click.style(f"   $ {command}", fg="cyan"))
        mark = click.style("ok", fg="green") if report.ok else click.style("FAILED", fg="red", bold=True)
        click.echo(f"   {mark}, {report.seconds:.2f} s")
        if report.error is not None:
            click.echo(printable(f"Error in step {report.number} ({report.title}): {report.error['what']}"), err=True)
            for word in ("why", "do"):
                if report.error[word]:
                    click.echo(printable(f"  {word}: {report.error[word]}"), err=True)

    def result(self, report: DemoReport) -> None:
        if not self.enabled:
            show_json(asdict(report))
        elif report.ok:
            click.echo(f"\nAll {len(report.steps)} steps ok, {report.seconds:.1f} s.")


def _advice(opened: Demo) -> str:
    from confcom.demo.story import TRUST

    socket, trust = opened.node.aesm_socket, opened.file(TRUST)
    return f"""
Everything stays up until Ctrl-C, which empties {opened.processes.folder}, whatever is in it.
The commands above can be repeated. Three more things to try, in another terminal and another folder:

 1. Your own program gets a quote, in six lines of Python ({sys.executable}):
      from confcom.client import AesmClient
      from confcom.simulation.enclave import SimulatedEnclave
      client = AesmClient("{socket}")
      target = client.init_quote().target_info
      report = SimulatedEnclave.from_name("mine").create_report(target, b"my challenge".ljust(64, b"\\0"))
      open("mine.bin", "wb").write(client.get_quote(report).quote)

 2. Your own container gets one, through Intel's libsgx-quote-ex (an enclave built in the SDK's simulation mode):
      docker run --rm -e SGX_AESM_ADDR=1 -v {socket.parent}:/var/run/aesmd YOUR_IMAGE

 3. A relying party checks it:
      confcom verify mine.bin --root {trust}/root.pem --collateral {trust}/collateral --allow-simulated
    (exit code 3: authentic, but you did not say which enclave you expect; --mrenclave does)"""
