"""Shell completion, from click's own generator."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from confcom.errors import SettingsError

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      eval "$(confcom completion bash)"
      confcom completion zsh > ~/.zfunc/_confcom
      confcom completion fish > ~/.config/fish/completions/confcom.fish
    """
    from confcom.cli.group import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise SettingsError(f"click has no completion for {shell}")
    click.echo(kind(cli, {}, "confcom", "_CONFCOM_COMPLETE").source())
