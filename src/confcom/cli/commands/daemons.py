"""The commands that run daemons in the foreground. All arguments go to the daemon's own parser."""

import os
import sys
from collections.abc import Callable

import click


def _daemon(name: str) -> Callable[[Callable[..., None]], click.Command]:
    arguments = click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)
    pass_through = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    return click.command(name, context_settings=pass_through, params=[arguments])


@_daemon("quote-helper")
def quote_helper(arguments: tuple[str, ...]) -> None:
    from confcom.quote_helper.main import main

    sys.exit(main(arguments, prog="confcom quote-helper", environ=os.environ, stderr=sys.stderr))


@_daemon("device-plugin")
def device_plugin(arguments: tuple[str, ...]) -> None:
    from confcom.device_plugin.main import main

    sys.exit(main(arguments, prog="confcom device-plugin", environ=os.environ, stderr=sys.stderr))


@_daemon("controller")
def controller(arguments: tuple[str, ...]) -> None:
    from confcom.controller.main import main

    sys.exit(main(arguments, prog="confcom controller", environ=os.environ, stderr=sys.stderr))


@_daemon("serve")
def simulated_pcs(arguments: tuple[str, ...]) -> None:
    """Serve a simulated platform's collateral over HTTP, in the form of Intel's PCS."""
    from confcom.simulated_pcs.main import main

    sys.exit(main(arguments, prog="confcom collateral serve", environ=os.environ, stderr=sys.stderr))
