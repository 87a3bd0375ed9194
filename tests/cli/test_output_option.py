import click
import pytest

from confcom.cli.group import cli
from confcom.cli.output_option import asks_for_json

WITHOUT = {"quote-helper", "device-plugin", "controller", "completion", "policy from-quote", "collateral serve", "run"}
"""Commands that have no option --output, because they print a log, a script, a file, or another program's output."""


def leaves(command, path=()):
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            yield from leaves(command.get_command(None, name), (*path, name))
    else:
        yield " ".join(path), command


EVERY = dict(leaves(cli))


@pytest.mark.parametrize("name", sorted(set(EVERY) - WITHOUT))
def test_the_format_is_chosen_in_one_way(name):
    (option,) = [one for one in EVERY[name].params if one.name == "output"]
    assert option.opts == ["-o", "--output"]
    assert list(option.type.choices) == (["text", "short", "json"] if name == "test" else ["text", "json"])
    assert option.default == "text"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("status -o json", True),
        ("status -ojson --bogus", True),
        ("disable -yo json --bogus", True),
        ("disable -yotext --bogus", False),
        ("status -fojson", False),
        ("status --output json", True),
        ("status --output=json", True),
        ("status -o text -o json", True),
        ("status -o json -o text", False),
        ("status", False),
        ("status -o", False),
        ("inspect -- -o json", False),
    ],
)
def test_a_line_that_cannot_be_parsed_asks_for_json(line, expected):
    assert asks_for_json(line.split()) is expected
