import pytest

from bench.report import Goal, Section, command_line, run
from confcom.errors import ExitCode

AT_MOST, AT_LEAST = Goal(2.0), Goal(80.0, least=True)


@pytest.mark.parametrize(
    ("goal", "value", "code"),
    [(AT_MOST, 2.5, 0), (AT_MOST, 2.6, 1), (AT_LEAST, 64.0, 0), (AT_LEAST, 63.0, 1)],
)
def test_a_goal_missed_by_more_than_a_quarter_fails_on_request(goal, value, code, monkeypatch, tmp_path):
    section = Section("speed", ["this"], {"turn": goal, "away": goal})
    section.add("this", "turn", "x", value)
    section.leave_out("away", "x", "no Go")
    assert section.as_table().count(goal.text("x")) == 2
    for flags, expected in (((), ExitCode.OK), (("--goals",), code)):
        monkeypatch.setattr("sys.argv", ["bench", f"--output={tmp_path / 'values'}", *flags])
        assert run(command_line("bench", ""), lambda _: ([section], {})) == expected
