"""Shell completion scripts, made by click."""

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_NO_FILES = ":4"
"""The line that makes kubectl's completion offer no file names (cobra's ShellCompDirectiveNoFileComp)."""


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
    """Print completions for `kubectl confcom`: kubectl runs this as `kubectl_complete-confcom`, in any shell.

    The arguments are the words so far; the last one is the word to complete. The output is one completion per line, and
    a last line that tells kubectl to offer no file names.
    """
    from confcom.cli.group import cli

    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(cli, {}, "kubectl confcom", "").get_completions(words, incomplete):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(_NO_FILES)
