"""The command `confcom run`."""

import os
import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from confcom.cli.parameter_types import NamedPath
from confcom.errors import ConfcomError, ExitCode, printable
from confcom.namespaces.modes import AUTO, MODES
from confcom.simulation.collateral_staging import Staging


class _Command(click.Command):
    """A command whose own failures have an exit code that programs leave free, also those of its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.UsageError as error:
            from confcom.run.plan import RunError

            what = " ".join(error.format_message().split()).rstrip(".")
            raise RunError(what, error_code="command-line-refused", remedy=f"see {ctx.command_path} --help") from error


@click.command(cls=_Command, context_settings={"allow_interspersed_args": False})
@click.option(
    "--trust",
    type=NamedPath(),
    metavar="DIR",
    help="Where root and collateral are written for the verifier.  [default: trust beside the platform]",
)
@click.option(
    "--staging",
    type=click.Choice([one.value for one in Staging]),
    default=Staging.NONE.value,
    show_default=True,
    help="What the collateral says of the platform.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default=AUTO,
    show_default=True,
    help="How the program is isolated; auto is root for root, else user-namespace.",
)
@click.option(
    "--report", type=NamedPath(dir_okay=False), metavar="FILE", help="Write a report to FILE at the end, JSON."
)
@click.argument(
    "program",
    nargs=-1,
    type=click.UNPROCESSED,
    shell_complete=lambda _ctx, _param, incomplete: [CompletionItem(incomplete, type="file")],
)
def run(*, trust: Path | None, staging: str, mode: str, report: Path | None, program: tuple[str, ...]) -> None:
    """Run PROGRAM with AESM on this machine, without SGX hardware.

    The program finds a simulated quote helper of its own at /var/run/aesmd/aesm.socket, and a device at
    /dev/sgx_enclave; it sees everything else as before. The helper ends with the program. Quotes are SIMULATED: they
    prove nothing about hardware. stdin and stdout are the program's; confcom writes to stderr.

    \b
    Examples:
      confcom run -- confcom quote --report-data c0ffee --out q.bin
      confcom run --trust ./trust -- ./my-service --port 8080
      confcom run -- bash                       a shell; each program that it starts has AESM
      sudo confcom run -- ./my-service          where users may not make namespaces
      confcom run --mode no-namespace -- sh -c 'podman run -e SGX_AESM_ADDR=1 -v $CONFCOM_AESM_DIR:/var/run/aesmd IMAGE'

    The exit code is the program's, 128+N after signal N, 126 or 127 if it cannot be executed or found, and 125 if
    confcom failed.
    """
    from confcom.run.plan import RunError
    from confcom.run.session import Request, run_program

    request = Request(
        program, mode, trust.absolute() if trust else None, Staging(staging), report.absolute() if report else None
    )
    try:
        code = run_program(request, os.environ, lambda line: click.echo(printable(f"confcom run: {line}"), err=True))
    except ConfcomError as error:
        error.exit_code = ExitCode.RUN_FAILED
        raise
    except OSError as error:
        what = f"{os.fsdecode(error.filename)} cannot be used" if error.filename else "the system refused something"
        raise RunError(what, error_code="path-unusable", why=error.strerror or str(error)) from error
    sys.exit(code)
