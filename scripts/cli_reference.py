"""Write every command's help into docs/reference/cli.md; --check fails if what is there differs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from confcom.cli.group import COMMANDS, cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
BEGIN = "<!-- commands: made by scripts/cli_reference.py -->\n"
END = "<!-- end of commands -->\n"
WIDTH = 100
DAEMONS = frozenset({"quote-helper", "device-plugin"})
"""Their flags are on pages of their own."""


def main() -> int:
    """Write the page's part, or compare it."""
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE.name} lacks the lines between which the commands stand: {BEGIN.strip()} and {END.strip()}")
    made = before + BEGIN + "".join(sections()) + END + after
    if "--check" not in sys.argv:
        PAGE.write_text(made)
        return 0
    if made != page:
        print(f"docs/reference/{PAGE.name} does not have the commands' help; run: python scripts/cli_reference.py")
    return int(made != page)


def sections() -> Iterator[str]:
    """A section for each command, in the order of `confcom --help`."""
    with click.Context(cli, info_name="confcom", terminal_width=WIDTH) as root:
        for name in COMMANDS:
            command = cli.get_command(root, name)
            if command is not None and name not in DAEMONS:
                yield from section(command, name, root)


def section(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """One command, and its own commands behind it."""
    with click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH) as context:
        yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n\n"
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                yield from section(command.commands[below], below, context)


if __name__ == "__main__":
    sys.exit(main())
