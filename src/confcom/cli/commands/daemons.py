"""The commands that run daemons in the foreground. All arguments go to the daemon's own parser."""

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

_PATH_KINDS = {"DIR": "dir", "PATH": "file"}
"""Keyed by a flag's metavar: the type of completion in click's completion scripts."""

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


class _Daemon(click.Command):
    """A command that passes all flags to the daemon. Click knows none of the daemon's flags."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete flag names as values of the only parameter, which takes all arguments."""
        return self.params[0].shell_complete(ctx, incomplete)


def _flags_of(module: str) -> Completion:
    """Return a function that imports the module and completes the flags of the module's `settings_parser`."""

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


def _daemon(name: str, settings: str) -> Callable[[Callable[..., None]], _Daemon]:
    complete = _flags_of(settings)
    flags = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED, shell_complete=complete)
    pass_through = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    return click.command(name, cls=_Daemon, context_settings=pass_through, params=[flags])


@_daemon("quote-helper", "confcom.quote_helper.settings")
def quote_helper(arguments: tuple[str, ...]) -> None:
    from confcom.quote_helper.main import main

    sys.exit(main(arguments, prog="confcom quote-helper", environ=os.environ, stderr=sys.stderr))


@_daemon("device-plugin", "confcom.device_plugin.settings")
def device_plugin(arguments: tuple[str, ...]) -> None:
    from confcom.device_plugin.main import main

    sys.exit(main(arguments, prog="confcom device-plugin", environ=os.environ, stderr=sys.stderr))


@_daemon("controller", "confcom.controller.settings")
def controller(arguments: tuple[str, ...]) -> None:
    from confcom.controller.main import main

    sys.exit(main(arguments, prog="confcom controller", environ=os.environ, stderr=sys.stderr))


@_daemon("serve", "confcom.simulated_pcs.settings")
def simulated_pcs(arguments: tuple[str, ...]) -> None:
    """Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS."""
    from confcom.simulated_pcs.main import main

    sys.exit(main(arguments, prog="confcom collateral serve", environ=os.environ, stderr=sys.stderr))
