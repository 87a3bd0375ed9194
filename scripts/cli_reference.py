"""Write every command's help into docs/reference/cli.md; --check fails if what is there differs."""

import copy
import sys
from collections import Counter
from collections.abc import Iterator

import click
from generated_part import write_or_check

from confcom.cli.group import COMMANDS, cli

WIDTH = 100
DAEMONS = frozenset({"quote-helper", "device-plugin", "controller", "serve"})
"""daemon_reference.py writes their flags."""
SHARED = 10
"""Commands with the same option, from which on the page has the option once."""


def main() -> int:
    return write_or_check({"cli.md": {"commands": "".join(sections())}})


def sections() -> Iterator[str]:
    """The options that many commands have, and a section for each command, in the order of `confcom --help`."""
    with click.Context(cli, info_name="confcom", terminal_width=WIDTH) as root:
        contexts = [each for name in COMMANDS if (each := below(cli, name, root))]
        every = [each for context in contexts for each in context]
        found = Counter(record for context in every for record in records(context))
        shared = {record: names(record) for record, count in found.items() if count >= SHARED}
        formatter = click.HelpFormatter(width=WIDTH)
        formatter.write_dl(sorted(shared, key=lambda record: -found[record]))
        yield f"## Options of many commands\n\n```text\n{formatter.getvalue()}```\n\n"
        yield from (section(context, shared) for context in every)


def below(group: click.Group, name: str, parent: click.Context) -> list[click.Context]:
    """Contexts of a command and its subcommands; none for a daemon."""
    command = group.get_command(parent, name)
    if command is None or name in DAEMONS:
        return []
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH)
    further = command.list_commands(context) if isinstance(command, click.Group) else []
    return [context, *(each for one in further for each in below(command, one, context))]


def records(context: click.Context) -> Iterator[tuple[str, str]]:
    yield from filter(None, (each.get_help_record(context) for each in context.command.get_params(context)))


def names(record: tuple[str, str]) -> str:
    """The longest name of an option."""
    return record[0].replace(",", "").split(" --")[-1].split()[0].removeprefix("--")


def section(context: click.Context, shared: dict[tuple[str, str], str]) -> str:
    """One command: its help, which only names the options that the page already explains."""
    command = copy.copy(context.command)
    also = [f"--{shared[one]}" for one in records(context) if one in shared and shared[one] != "help"]
    command.params = [one for one in command.params if one.get_help_record(context) not in shared]
    command.add_help_option = False
    lines = [command.get_help(context).rstrip("\n"), *(["\nAlso: " + ", ".join(also)] if also else [])]
    return f"## {context.command_path}\n\n```text\n" + "\n".join(lines) + "\n```\n\n"


if __name__ == "__main__":
    sys.exit(main())
