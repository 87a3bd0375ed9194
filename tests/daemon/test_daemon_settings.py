from dataclasses import dataclass
from pathlib import Path

import pytest

from confcom.daemon.logs import LogLevel
from confcom.daemon.probe_server import ProbeAddress
from confcom.daemon.settings import (
    DaemonSettings,
    SettingsParser,
    integer_between,
    member_of,
    parse_path,
    parse_switch,
    setting,
    switch,
)
from confcom.errors import ExitCode, SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(DaemonSettings):
    count: int = setting(4, "how many, 100% sure", integer_between(1, 9), "N")
    state_dir: Path | None = setting(None, "where", parse_path, "DIR")
    socket: Path = setting(Path("/x"), "s", parse_path, "PATH", variable="CONFCOM_OTHER")
    simulated: bool = switch("pretend")


def make_parser(environ):
    return SettingsParser(
        Settings, "prog", description="What it does.", environ=environ, epilog="Examples:\n  prog --count 3"
    )


@pytest.mark.parametrize(
    ("arguments", "environ", "name", "value"),
    [
        ([], {}, "count", 4),
        ([], {"CONFCOM_COUNT": "5"}, "count", 5),
        (["--count", "6"], {"CONFCOM_COUNT": "5"}, "count", 6),
        (["--count=6"], {"CONFCOM_COUNT": "nonsense"}, "count", 6),
        ([], {"CONFCOM_COUNT": ""}, "count", 4),
        ([], {}, "state_dir", None),
        ([], {"CONFCOM_STATE_DIR": "/var/x"}, "state_dir", Path("/var/x")),
        ([], {"CONFCOM_SOCKET": "/no"}, "socket", Path("/x")),
        ([], {"CONFCOM_OTHER": "/yes"}, "socket", Path("/yes")),
        ([], {}, "simulated", False),
        (["--simulated"], {}, "simulated", True),
        ([], {"CONFCOM_SIMULATED": "true"}, "simulated", True),
        ([], {"CONFCOM_SIMULATED": "0"}, "simulated", False),
        (["--no-simulated"], {"CONFCOM_SIMULATED": "yes"}, "simulated", False),
        ([], {}, "log_level", "info"),
        (["--log-level", "DEBUG"], {}, "log_level", LogLevel.DEBUG),
        ([], {"CONFCOM_LOG_LEVEL": "error"}, "log_level", LogLevel.ERROR),
        ([], {}, "probe_address", None),
        (["--probe-address", ":8080"], {}, "probe_address", ProbeAddress("", 8080)),
    ],
)
def test_a_flag_wins_over_its_variable_and_that_over_the_default(arguments, environ, name, value):
    assert getattr(make_parser(environ).parse(arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "environ", "named"),
    [
        (["--count", "10"], {}, ["--count", "10"]),
        (["--count", "x"], {}, ["--count", "'x'"]),
        ([], {"CONFCOM_COUNT": "0"}, ["CONFCOM_COUNT", "'0'", "--count"]),
        ([], {"CONFCOM_SIMULATED": "maybe"}, ["CONFCOM_SIMULATED", "'maybe'"]),
        (["--unknown"], {}, ["--unknown"]),
        (["--cou", "3"], {}, ["--cou"]),
        (["--count"], {}, ["--count"]),
        (["stray"], {}, ["stray"]),
        (["--state-dir", ""], {}, ["--state-dir"]),
        (["--state-dir", "a\0b"], {}, ["--state-dir"]),
        (["--log-level", "loud"], {}, ["--log-level", "debug, info"]),
        ([], {"CONFCOM_LOG_LEVEL": "loud"}, ["CONFCOM_LOG_LEVEL", "debug, info"]),
        (["--probe-address", "8080"], {}, ["--probe-address"]),
        ([], {"CONFCOM_PROBE_ADDRESS": "h:99999"}, ["CONFCOM_PROBE_ADDRESS", "h:99999"]),
    ],
)
def test_a_bad_value_is_one_clear_error_wherever_it_came_from(arguments, environ, named):
    with pytest.raises(SettingsError) as caught:
        make_parser(environ).parse(arguments)
    assert caught.value.error_code == ("variable-refused" if environ else "command-line-refused")
    assert caught.value.exit_code is ExitCode.USAGE
    assert all(name in str(caught.value) for name in named), str(caught.value)


def test_help_is_the_reference(capsys):
    with pytest.raises(SystemExit) as caught:
        make_parser({}).parse(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "how many, 100% sure (default: 4; CONFCOM_COUNT)" in text
    assert "(default: none; CONFCOM_STATE_DIR)" in text
    assert "--no-simulated" in text
    assert text.endswith("Examples: prog --count 3")


def test_converters_take_words_in_any_case():
    assert member_of(LogLevel)(" Debug ") is LogLevel.DEBUG
    assert parse_switch(" On ") is True
