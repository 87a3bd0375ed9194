"""Write every command's help into docs/reference/cli.md; --check fails if what is there differs."""

import sys
from collections.abc import Iterator

import click
from generated_part import write_or_check

from confcom.cli.group import COMMANDS, cli

WIDTH = 100
DAEMONS = frozenset({"quote-helper", "device-plugin", "controller", "serve"})
"""daemon_reference.py writes their flags."""


def main() -> int:
    """Write the page's part, or compare it."""
    return write_or_check({"cli.md": {"commands": "".join(sections())}})


def sections() -> Iterator[str]:
    """A section for each command, in the order of `confcom --help`."""
    with click.Context(cli, info_name="confcom", terminal_width=WIDTH) as root:
        for name in COMMANDS:
            command = cli.get_command(root, name)
            if command is not None:
                yield from section(command, name, root)


def section(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """One command, followed by its subcommands; nothing for a daemon."""
    if name in DAEMONS:
        return
    with click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH) as context:
        yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n\n"
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                yield from section(command.commands[below], below, context)


if __name__ == "__main__":
    sys.exit(main())
