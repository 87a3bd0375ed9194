"""The table of commands, and the top-level group, which turns errors into messages and exit codes."""

import importlib
import os
from collections.abc import Mapping
from typing import Any

import click

from confcom.cli.failures import show_error, show_usage_error
from confcom.cli.output_option import JSON, OUTPUT, TEXT, asks_for_json, is_plain
from confcom.errors import ConfcomError, ExitCode

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("demo", "Run the whole sequence on this machine, without SGX hardware."),
    "run": ("run", "Run a program with AESM on this machine, without SGX hardware."),
    "enable": ("enable", "Enable the SGX add-on on a cluster."),
    "status": ("status", "Show the add-on's state on each node, and its problems."),
    "test": ("test", "Test whether the cluster's nodes make quotes that are verified."),
    "tcb": ("tcb", "Show which nodes are UpToDate, and what raises each SVN that is short."),
    "update": ("update", "Update the add-on node by node while applications continue to attest."),
    "rollback": ("rollback", "Undo the last update."),
    "disable": ("disable", "Disable the add-on, and remove what it installed."),
    "quote": ("quote", "Get a quote through the AESM socket, for a simulated enclave's report."),
    "inspect": ("inspect", "Show the fields of a quote."),
    "verify": ("verify", "Verify a quote against a root, collateral and your policy."),
    "collateral": ("collateral", "Fetch what a verifier needs besides the quote; serve that of a simulation."),
    "policy": ("policy", "Write and check policies: which quotes are accepted."),
    "simulation": ("simulation", "Create and export a simulated platform."),
    "quote-helper": ("daemons", "Run the SGX quote helper (AESM) in the foreground."),
    "device-plugin": ("daemons", "Run the SGX device plugin in the foreground."),
    "controller": ("daemons", "Run the controller of node capacity in the foreground."),
    "sysdump": ("sysdump", "Write an archive with what a maintainer needs: state, logs, no secrets."),
    "hardware-report": ("hardware_report", "Report this node's SGX hardware and software, to send to the authors."),
    "version": ("version", "Show the versions of this program and of a cluster's add-on."),
    "completion": ("completion", "Print the shell completion script."),
}
"""Keyed by the command's name: its module in `confcom.cli.commands`, and its short help."""


class LazyGroup(click.Group):
    """Lists commands without importing their modules. Turns ConfcomErrors into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in the order in which a new user needs the commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell completes the line
                return None
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module = importlib.import_module(f"confcom.cli.commands.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 # as click has it
    ) -> click.Context:
        """Parse the arguments before the command. Mistakes are printed in the format of commands' errors."""
        if is_plain(os.environ):
            extra.setdefault("color", False)
        as_json = asks_for_json(args)
        try:
            context = super().make_context(info_name, args, parent, **extra)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.ClickException as error:
            raise click.exceptions.Exit(show_usage_error(error, as_json=as_json).exit_code) from error
        context.meta[OUTPUT] = JSON if as_json else TEXT
        return context

    def invoke(self, ctx: click.Context) -> object:
        """Run a command. A ConfcomError or a usage error ends the program with a message and exit code."""
        try:
            return super().invoke(ctx)
        except ConfcomError as error:
            show_error(error, as_json=ctx.meta[OUTPUT] == JSON)
            ctx.exit(error.exit_code)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.ClickException as error:
            ctx.exit(show_usage_error(error, as_json=ctx.meta[OUTPUT] == JSON).exit_code)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(ExitCode.INTERRUPTED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="confcom", prog_name="confcom")
def cli() -> None:
    """The SGX add-on for any Kubernetes cluster. It also runs end to end without SGX hardware.

    \b
    Start here:
      confcom demo                            run the whole sequence on this machine
      confcom run -- PROGRAM                  give your own program AESM and simulated quotes
      confcom enable                          enable the add-on on your cluster
    """
