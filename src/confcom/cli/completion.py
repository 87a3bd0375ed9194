"""Shell completion, from click's own generator."""

from __future__ import annotations

import sys

import click
from click.shell_completion import ShellComplete, get_completion_class

from confcom.errors import SettingsError

SHELLS = ("bash", "zsh", "fish")


_NO_FILES = ":4"
"""What kubectl's completion takes for: offer no file names beside these (cobra's ShellCompDirectiveNoFileComp)."""


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


def complete_for_kubectl() -> None:
    """The program `kubectl_complete-confcom`, which kubectl runs to complete `kubectl confcom` in any shell.

    It gets the words so far, the one to be completed last, and prints what may stand there.
    """
    from confcom.cli.group import cli

    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(cli, {}, "kubectl confcom", "").get_completions(words, incomplete):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(_NO_FILES)
