"""The commands that run daemons in the foreground. All arguments go to the daemon's own parser."""

import importlib
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from confcom.daemon.settings import SettingsParser

_PATH_KINDS = {"DIR": "dir", "PATH": "file"}
"""Keyed by a flag's metavar: the type of completion in click's completion scripts."""


class _Daemon(click.Command):
    """A command that passes all flags to the daemon of a package. Click knows none of the daemon's flags."""

    def __init__(self, path: str, package: str, text: str) -> None:
        self._path, self._package = path, package
        pass_through = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
        flags = click.Argument(
            ["arguments"],
            nargs=-1,
            type=click.UNPROCESSED,
            shell_complete=lambda ctx, _, incomplete: self.shell_complete(ctx, incomplete),
        )
        name = path.rpartition(" ")[2]
        super().__init__(name, callback=self._run, context_settings=pass_through, params=[flags], help=text)

    def _run(self, arguments: tuple[str, ...]) -> None:
        main = importlib.import_module(f"{self._package}.main").main
        sys.exit(main(arguments, prog=f"confcom {self._path}", environ=os.environ, stderr=sys.stderr))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the names of the daemon's flags, or the value of the last given one."""
        parser: SettingsParser[Any] = importlib.import_module(f"{self._package}.settings").settings_parser("", {})
        given = ctx.params.get("arguments") or ("",)
        previous = next((flag for flag in parser.flags if flag.name == given[-1] and flag.metavar), None)
        if previous is None:
            offered = [CompletionItem(flag.name, help=flag.text) for flag in parser.flags if flag.name not in given]
            offered.append(CompletionItem("--help", help="show all flags and their variables"))
        elif previous.metavar in _PATH_KINDS:
            return [CompletionItem(incomplete, type=_PATH_KINDS[previous.metavar])]
        else:
            offered = [CompletionItem(word) for word in previous.words]
        return [item for item in offered if item.value.startswith(incomplete)]


quote_helper = _Daemon("quote-helper", "confcom.quote_helper", "Run the SGX quote helper (AESM) in the foreground.")
device_plugin = _Daemon("device-plugin", "confcom.device_plugin", "Run the SGX device plugin in the foreground.")
controller = _Daemon("controller", "confcom.controller", "Run the controller of node capacity in the foreground.")
simulated_pcs = _Daemon(
    "collateral serve",
    "confcom.simulated_pcs",
    "Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS.",
)
