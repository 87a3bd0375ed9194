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
from confcom.errors import SIGNAL_EXIT_BASE, ExitCode, printable, why_and_remedy
from confcom.namespaces.modes import AUTO, MODES

if TYPE_CHECKING:
    from confcom.demo.story import DemoReport, StepReport

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NEXT = """
Where to go next:
  a quote for your own program   confcom run -- PROGRAM, and docs/how-to/run-a-program.md
  on a cluster, without SGX      docs/how-to/cluster-without-sgx.md
  what all this is               docs/explanation/architecture.md"""


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Print more details, and the commands that each step ran.")
@click.option("--mode", type=click.Choice(MODES), default=AUTO, show_default=True, help="How containers are isolated.")
@output_option
def demo(*, verbose: bool, mode: str, output: str) -> None:
    """Run the whole sequence on this machine, without SGX hardware.

    The demo creates a simulated SGX platform, starts a node with its device plugin and quote helper, and runs the Job
    of examples/job.yaml, which gets enclave memory and a quote. A relying party then verifies the quote. The exit code
    is 0 only if every step succeeded. The machine itself is not changed.

    \b
    Examples:
      confcom demo
      confcom demo -v                     with the commands of each step
      confcom demo --output json | jq .ok
      confcom demo --mode no-namespace    containers as plain processes
    """
    if output == TEXT:
        click.echo("confcom demo: confidential computing on one node, without Kubernetes and without SGX hardware")
    printer = StepPrinter(enabled=output == TEXT, verbose=verbose)
    outcome = asyncio.run(_until_signal(_run(mode, printer)))
    if isinstance(outcome, signal.Signals):
        if output == TEXT:
            click.echo("Stopped; nothing is left.", err=True)
        sys.exit(SIGNAL_EXIT_BASE + outcome)
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


async def _run(mode: str, printer: StepPrinter) -> DemoReport:
    from confcom.demo.story import open_demo, run

    async with open_demo(mode, os.environ) as opened:
        report = await run(opened, begin=printer.begin, end=printer.end)
        printer.result(report)
    if not printer.enabled:
        return report
    if report.ok:
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
            for words in why_and_remedy(str(report.error["why"]), str(report.error["do"])):
                click.echo(words, err=True)

    def result(self, report: DemoReport) -> None:
        if not self.enabled:
            show_json(asdict(report))
        elif report.ok:
            click.echo(f"\nAll {len(report.steps)} steps ok, {report.seconds:.1f} s.")
