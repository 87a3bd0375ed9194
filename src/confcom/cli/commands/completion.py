"""Prints shell completion scripts that click makes."""

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_NO_FILES = ":4"
"""The last output line, which makes kubectl offer no file names (cobra's ShellCompDirectiveNoFileComp)."""


@click.command()
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      eval "$(confcom completion bash)"
      confcom completion zsh > ~/.zfunc/_confcom
      confcom completion fish > ~/.config/fish/completions/confcom.fish
    """
    from confcom.cli.group import cli

    click.echo(SHELLS[shell](cli, {}, "confcom", "_CONFCOM_COMPLETE").source())


def complete_for_kubectl() -> None:
    """Print completions for `kubectl confcom`. In any shell, kubectl runs it as `kubectl_complete-confcom`.

    The arguments are the words typed so far; the last word is to be completed.
    """
    from confcom.cli.group import cli

    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(cli, {}, "kubectl confcom", "").get_completions(words, incomplete):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(_NO_FILES)
