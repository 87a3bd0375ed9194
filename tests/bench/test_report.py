import pytest

from bench.report import Goal, Section, command_line, run
from confcom.errors import ExitCode

AT_MOST, AT_LEAST = Goal(2.0), Goal(80.0, least=True)


@pytest.mark.parametrize(
    ("goal", "value", "code"),
    [
        (AT_MOST, 2.5, ExitCode.OK),
        (AT_MOST, 2.6, ExitCode.FAILED),
        (AT_LEAST, 64.0, ExitCode.OK),
        (AT_LEAST, 63.0, ExitCode.FAILED),
    ],
)
def test_a_goal_missed_by_more_than_a_quarter_fails_on_request(goal, value, code, monkeypatch, tmp_path):
    section = Section("speed", ["this"], {"turn": goal})
    section.add("this", "turn", "x", value)
    for flags, expected in (((), ExitCode.OK), (("--goals",), code)):
        monkeypatch.setattr("sys.argv", ["bench", f"--output={tmp_path / 'values'}", *flags])
        assert run(command_line("bench", ""), lambda _: ([section], {})) == expected


@pytest.mark.parametrize(("value", "verdict"), [(2.0, "met"), (2.1, "MISSED")])
def test_each_row_shows_its_goal(value, verdict):
    section = Section("speed", ["this"], {"turn": AT_MOST, "away": AT_MOST})
    section.add("this", "turn", "x", value)
    section.leave_out("away", "x", "no Go")
    turn, away = section.as_table().splitlines()[3:]
    assert f"{AT_MOST.text('x')}: {verdict}" in turn
    assert "no Go" in away
    assert away.endswith(AT_MOST.text("x"))
