"""The error for a mistyped command suggests the command with the most similar name."""

import pytest

from confcom.errors import ExitCode
from testkit.programs import run_confcom


@pytest.mark.parametrize(("typed", "meant"), [("inspec", "'inspect'"), ("simulation expor", "'export'")])
def test_the_command_that_was_meant_is_named(typed, meant):
    done = run_confcom(*typed.split())
    assert done.exit_code == ExitCode.USAGE
    assert meant in done.stderr
