"""The commands that run daemons in the foreground. All arguments go to the daemon's own parser."""

import importlib
import os
import sys

import click

_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


def _daemon(name: str, package: str, program: str, text: str = "") -> click.Command:
    """Make a command for the `main` of confcom.PACKAGE. The daemon knows itself by the name `program`."""

    def run(arguments: tuple[str, ...]) -> None:
        main = importlib.import_module(f"confcom.{package}.main").main
        sys.exit(main(arguments, prog=program, environ=os.environ, stderr=sys.stderr))

    flags = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    return click.Command(name, context_settings=_PASSED_ON, callback=run, params=[flags], help=text)


quote_helper = _daemon("quote-helper", "quote_helper", "confcom quote-helper")
device_plugin = _daemon("device-plugin", "device_plugin", "confcom device-plugin")
controller = _daemon("controller", "controller", "confcom controller")
simulated_pcs = _daemon(
    "serve",
    "simulated_pcs",
    "confcom collateral serve",
    "Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS.",
)
