"""The command table and how errors reach a person."""

from __future__ import annotations

import contextlib
import errno
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

from confcom.errors import ConfcomError, ExitCode, OutputError, explain

OUTPUT_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What write(2) on stdout fails with: no space, no quota, a file size limit, a terminal or disk that is gone."""

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("confcom.cli.demo:demo", "The whole story on this machine, without SGX hardware."),
    "enable": ("confcom.cli.enable:enable", "Enable the SGX add-on on a cluster."),
    "status": ("confcom.cli.status:status", "Show the add-on node by node, and what is wrong."),
    "update": ("confcom.cli.enable:update", "Update it node by node while applications go on attesting."),
    "rollback": ("confcom.cli.enable:rollback", "Undo the last update."),
    "disable": ("confcom.cli.disable:disable", "Disable it, so that nothing of it stays."),
    "quote": (
        "confcom.cli.quote:quote",
        "Get a quote through the AESM socket, for a simulated enclave's report.",
    ),
    "inspect": ("confcom.cli.inspect:inspect", "Show what a quote says, in words."),
    "verify": ("confcom.cli.verify:verify", "Check a quote against a root, collateral and your policy."),
    "simulation": ("confcom.cli.simulation:simulation", "The simulated platform's root and collateral."),
    "quote-helper": (
        "confcom.cli.daemons:quote_helper",
        "Run the SGX quote helper (AESM) in the foreground.",
    ),
    "device-plugin": ("confcom.cli.daemons:device_plugin", "Run the SGX device plugin in the foreground."),
    "playground": (
        "confcom.cli.playground:playground",
        "One node without Kubernetes: run Job and Pod manifests.",
    ),
    "completion": ("confcom.cli.completion:completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """Lists commands without importing them, and turns the error tree into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order a newcomer meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command that is wanted."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Help without importing every command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; an error of our tree becomes its message and its exit code."""
        try:
            return super().invoke(ctx)
        except ConfcomError as error:
            show_error(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(ExitCode.INTERRUPTED)


def show_error(error: ConfcomError) -> None:
    """Print what happened, why, and what to do, each on its line, to stderr."""
    # When nobody can be told any more, the exit code still tells.
    with contextlib.suppress(OSError):
        click.echo(explain(error), err=True, nl=False)


@contextmanager
def output_failures_explained() -> Iterator[None]:
    """Around the whole command: a full disk under stdout becomes a message and an exit code, not a traceback.

    A reader that went away (EPIPE, as with `| head`) is left to click, which ends quietly with code 1.

    Raises:
        SystemExit: the output could not be written.
        OSError: something else failed; that is a bug and keeps its traceback.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in OUTPUT_ERRNOS or error.filename is not None:
            raise
        failure = OutputError(
            "the output could not be written",
            why=error.strerror or str(error),
            remedy="check the disk, the quota and the terminal that stdout goes to",
        )
        show_error(failure)
        raise SystemExit(failure.exit_code) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="confcom", prog_name="confcom")
def cli() -> None:
    """The SGX add-on for any Kubernetes, which also runs end to end without SGX hardware.

    \b
    Start here:
      confcom demo                            the whole story, on this machine
      confcom demo --keep                     ... and leave it up, to point your own program at it
      confcom enable                          the add-on, on your cluster
    """
