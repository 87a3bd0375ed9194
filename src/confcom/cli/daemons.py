"""The node daemons in the foreground: every argument goes to the daemon's own command line."""

from __future__ import annotations

import os
import sys

import click

_PASS_THROUGH = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command("quote-helper", context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def quote_helper(arguments: tuple[str, ...]) -> None:
    """Run the SGX quote helper (AESM) in the foreground."""
    from confcom.quote_helper.main import main

    sys.exit(main(arguments, prog="confcom quote-helper", environ=os.environ, stderr=sys.stderr))


@click.command("device-plugin", context_settings=_PASS_THROUGH)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def device_plugin(arguments: tuple[str, ...]) -> None:
    """Run the SGX device plugin in the foreground."""
    from confcom.device_plugin.main import main

    sys.exit(main(arguments, prog="confcom device-plugin", environ=os.environ, stderr=sys.stderr))
