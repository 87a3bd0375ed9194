"""A mistyped command is answered with the one that it looks like."""

import pytest
from click.testing import CliRunner

from confcom.cli.group import cli
from confcom.errors import ExitCode


@pytest.mark.parametrize(("typed", "meant"), [("inspec", "'inspect'"), ("simulation expor", "'export'")])
def test_the_command_that_was_meant_is_named(typed, meant):
    done = CliRunner().invoke(cli, typed.split())
    assert done.exit_code == ExitCode.USAGE
    assert meant in done.stderr
