from pathlib import Path

import pytest

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import (
    SettingsParser,
    add_common_flags,
    integer_between,
    member_of,
    one_of,
    parse_path,
    parse_switch,
)
from confcom.errors import ExitCode, SettingsError


def make_parser(environ):
    parser = SettingsParser("prog", description="What it does.", environ=environ, epilog="Examples:\n  prog --count 3")
    parser.add("--count", convert=integer_between(1, 9), default=4, metavar="N", text="how many, 100% sure")
    parser.add("--state-dir", convert=parse_path, default=None, metavar="DIR", text="where")
    parser.add("--socket", convert=parse_path, default=Path("/x"), metavar="PATH", text="s", variable="CONFCOM_OTHER")
    parser.add_switch("--simulated", text="pretend")
    add_common_flags(parser)
    return parser


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
        (["--log-level", "DEBUG"], {}, "log_level", "debug"),
        ([], {"CONFCOM_LOG_FORMAT": "json"}, "log_format", LogFormat.JSON),
        ([], {}, "probe_address", None),
        (["--probe-address", ":8080"], {}, "probe_address", ProbeAddress("", 8080)),
    ],
)
def test_a_flag_wins_over_its_variable_and_that_over_the_default(arguments, environ, name, value):
    assert getattr(make_parser(environ).parse(arguments), name) == value


@pytest.mark.parametrize(
    ("arguments", "environ", "fragments"),
    [
        (["--count", "10"], {}, ["--count", "from 1 to 9"]),
        (["--count", "x"], {}, ["--count", "whole number"]),
        ([], {"CONFCOM_COUNT": "0"}, ["CONFCOM_COUNT is '0'", "from 1 to 9", "--count"]),
        ([], {"CONFCOM_SIMULATED": "maybe"}, ["CONFCOM_SIMULATED is 'maybe'", "true or false"]),
        (["--unknown"], {}, ["--unknown"]),
        (["--cou", "3"], {}, ["--cou"]),
        (["--count"], {}, ["--count"]),
        (["stray"], {}, ["stray"]),
        (["--state-dir", ""], {}, ["--state-dir", "empty"]),
        (["--state-dir", "a\0b"], {}, ["zero byte"]),
        (["--log-level", "loud"], {}, ["--log-level", "debug, info"]),
        ([], {"CONFCOM_LOG_FORMAT": "xml"}, ["CONFCOM_LOG_FORMAT", "auto, text, json"]),
        (["--probe-address", "8080"], {}, ["--probe-address", "HOST:PORT or unix:PATH"]),
        ([], {"CONFCOM_PROBE_ADDRESS": "h:99999"}, ["CONFCOM_PROBE_ADDRESS", "HOST:PORT"]),
    ],
)
def test_a_bad_value_is_one_clear_error_wherever_it_came_from(arguments, environ, fragments):
    with pytest.raises(SettingsError) as caught:
        make_parser(environ).parse(arguments)
    assert caught.value.exit_code is ExitCode.USAGE
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


def test_help_is_the_reference(capsys):
    with pytest.raises(SystemExit) as caught:
        make_parser({}).parse(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "how many, 100% sure (default: 4; CONFCOM_COUNT)" in text
    assert "(default: none; CONFCOM_STATE_DIR)" in text
    assert "--no-simulated" in text
    assert text.endswith("Examples: prog --count 3")


def test_converters():
    assert one_of("a", "b")(" A ") == "a"
    assert member_of(LogFormat)("Text") is LogFormat.TEXT
    assert parse_switch(" On ") is True
    for convert, bad in [
        (one_of("a"), "c"),
        (member_of(LogFormat), ""),
        (parse_switch, ""),
        (integer_between(0, 1), "2"),
    ]:
        with pytest.raises(ValueError, match="must be"):
            convert(bad)
