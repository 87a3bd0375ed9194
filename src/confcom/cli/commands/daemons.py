"""Commands that run the daemons in the foreground; all arguments go to the daemon's own parser."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from confcom.daemon.settings import SettingsParser

_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

_PATH_KINDS = {"DIR": "dir", "PATH": "file"}
"""The completion type, in click's completion scripts, of a flag with this metavar."""

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class _Daemon(click.Command):
    """A command that passes all flags to the daemon; click has no options for them."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete flag names with the completion of the only parameter, the arguments."""
        return self.params[0].shell_complete(ctx, incomplete)


def _flags_of(module: str) -> Completion:
    """Return a completion for the flags of the module's `settings_parser`, imported when it runs."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        parser: SettingsParser[Any] = importlib.import_module(module).settings_parser("", {})
        given = ctx.params.get(param.name or "") or ("",)
        previous = next((flag for flag in parser.flags if flag.name == given[-1] and flag.metavar), None)
        if previous is None:
            offered = [CompletionItem(flag.name, help=flag.text) for flag in parser.flags if flag.name not in given]
            offered.append(CompletionItem("--help", help="show all flags and their variables"))
        elif previous.metavar in _PATH_KINDS:
            return [CompletionItem(incomplete, type=_PATH_KINDS[previous.metavar])]
        else:
            offered = [CompletionItem(word) for word in previous.words]
        return [item for item in offered if item.value.startswith(incomplete)]

    return complete


def _daemon(command: str, package: str, words: str) -> click.Command:
    def run(arguments: tuple[str, ...]) -> None:
        main = importlib.import_module(f"confcom.{package}.main").main
        sys.exit(main(arguments, prog=f"confcom {command}", environ=os.environ, stderr=sys.stderr))

    complete = _flags_of(f"confcom.{package}.settings")
    flags = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, shell_complete=complete)
    name = command.rpartition(" ")[2]
    return _Daemon(name, context_settings=_PASS_THROUGH, callback=run, params=[flags], help=words)


quote_helper = _daemon("quote-helper", "quote_helper", "Run the SGX quote helper (AESM) in the foreground.")
device_plugin = _daemon("device-plugin", "device_plugin", "Run the SGX device plugin in the foreground.")
controller = _daemon("controller", "controller", "Run the controller of node capacity in the foreground.")
simulated_pcs = _daemon(
    "collateral serve",
    "simulated_pcs",
    "Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS.",
)
