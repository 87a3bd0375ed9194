import json
from pathlib import Path

import click
import pytest

from confcom.cli import output_option
from confcom.cli.group import cli
from confcom.cli.output_option import asks_for_json
from confcom.errors import ExitCode
from testkit.programs import run_confcom

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
        ("demo -vo json --bogus", True),
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


@pytest.mark.parametrize("name", sorted(set(EVERY) - WITHOUT))
def test_an_error_of_every_command_begins_with_the_schema(name):
    done = run_confcom(*name.split(), "--output", "json", "--no-such-option")
    assert done.exit_code == ExitCode.USAGE
    (_, schema), (_, error) = (found := json.loads(done.stdout)).items()
    assert (list(found), schema) == (["schema", "error"], 1)
    assert set(error) == {"code", "what", "why", "do", "exit_code"}
    assert (error["code"], error["exit_code"]) == ("command-line-refused", ExitCode.USAGE)
    assert "--no-such-option" in error["what"]
    assert f" {name} --help" in error["do"]


def test_no_command_writes_json_of_its_own():
    """One function writes each JSON object of a command, and begins it with the schema."""
    folder = Path(output_option.__file__).parent
    writers = {path.name for path in folder.rglob("*.py") if "json.dump" in path.read_text()}
    assert writers == {"output_option.py"}


def test_a_result_begins_with_the_schema(capsys):
    output_option.show_result({"a": 1}, [], "json")
    assert list(json.loads(capsys.readouterr().out)) == ["schema", "a"]
