"""The completion of `kubectl confcom`."""

import sys

import click
from click.shell_completion import ShellComplete

_NO_FILES = ":4"
"""The last output line, which makes kubectl offer no file names (cobra's ShellCompDirectiveNoFileComp)."""


def complete_for_kubectl() -> None:
    """Print completions for `kubectl confcom`. In any shell, kubectl runs it as `kubectl_complete-confcom`.

    The arguments are the words typed so far; the last word is to be completed.
    """
    from confcom.cli.group import cli

    *words, incomplete = sys.argv[1:] or [""]
    for item in ShellComplete(cli, {}, "kubectl confcom", "").get_completions(words, incomplete):
        click.echo(f"{item.value}\t{item.help}" if item.help else item.value)
    click.echo(_NO_FILES)
