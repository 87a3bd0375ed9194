from dataclasses import replace
from pathlib import Path

import pytest

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.errors import SettingsError
from confcom.quote_helper.quoting.simulated_backend import open_simulated
from confcom.quote_helper.settings import (
    DEFAULT_SOCKET,
    HelperSettings,
    ProviderKind,
    default_state_dir,
    parse_settings,
)
from testkit.raised import raises

HOME = {"HOME": "/home/ada"}


def settings(*arguments, **environ):
    return parse_settings(["--simulated", *arguments], prog="helper", environ=HOME | environ)


def test_defaults():
    assert Path("/var/run/aesmd/aesm.socket") == DEFAULT_SOCKET
    assert settings() == HelperSettings(
        state_dir=Path("/home/ada/.local/state/confcom/simulation"),
        socket=DEFAULT_SOCKET,
        probe_address=None,
        log_level="info",
        log_format=LogFormat.AUTO,
        replace_foreign_socket=False,
        stale_report_window_seconds=7 * 24 * 3600,
        identify_pods=False,
        log_quotes_per_peer=60,
    )


EVERYTHING = {
    "STATE_DIR": ("/d", Path("/d")),
    "PROBE_ADDRESS": ("[::1]:1", ProbeAddress("::1", 1)),
    "LOG_LEVEL": ("debug", "debug"),
    "LOG_FORMAT": ("text", LogFormat.TEXT),
    "REPLACE_FOREIGN_SOCKET": ("yes", True),
    "OPEN_TO_ALL_USERS": ("on", True),
    "STALE_REPORT_WINDOW_SECONDS": ("0", 0),
    "SIMULATED_QE_MRENCLAVE": ("aB" * 32, b"\xab" * 32),
    "SIMULATED_QE_ISVSVN": ("65535", 65535),
    "IDENTIFY_PODS": ("1", True),
    "LOG_QUOTES_PER_PEER": ("all", "all"),
    "MEMORY_LIMIT_MIB": ("128", 128),
    "PUBLISHED_ROOT": ("/r", Path("/r")),
}
"""By the variable: what is written, and the setting."""
RENAMED = {"simulated_qe_mrenclave": "simulated_qe_mr_enclave", "simulated_qe_isvsvn": "simulated_qe_isv_svn"}


def test_everything_by_flags_and_by_the_environment():
    fields = {RENAMED.get(name.lower(), name.lower()): value for name, (_, value) in EVERYTHING.items()}
    expected = replace(settings(), socket=Path("/s"), **fields)
    variables = {f"CONFCOM_{name}": text for name, (text, _) in EVERYTHING.items()}
    variables |= {"CONFCOM_SIMULATED": "true", "CONFCOM_AESM_SOCKET": "/s"}
    assert parse_settings([], prog="helper", environ=variables) == expected
    flags = ["--socket=/s"]
    for name, (text, value) in EVERYTHING.items():
        flag = "--" + name.lower().replace("_", "-")
        flags.append(flag if value is True else f"{flag}={text}")
    assert settings(*flags) == expected


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--simulated-qe-mrenclave", "ab" * 31),
        ("--simulated-qe-mrenclave", "zz" * 32),
        ("--simulated-qe-isvsvn", "65536"),
        ("--simulated-qe-isvsvn", "-1"),
        ("--stale-report-window-seconds", "-1"),
        ("--log-quotes-per-peer", "-1"),
        ("--log-quotes-per-peer", "60001"),
        ("--log-quotes-per-peer", "All"),
        ("--provider", "dcap"),
    ],
)
def test_an_error_names_the_flag_whose_value_is_wrong(flag, value):
    with pytest.raises(SettingsError) as caught:
        settings(f"{flag}={value}")
    assert flag in str(caught.value)


@pytest.mark.parametrize("arguments", [[], ["--no-simulated"]])
def test_without_a_platform_it_says_what_there_is(arguments):
    with raises("provider-not-chosen", SettingsError, "why", "remedy") as caught:
        parse_settings(arguments, prog="helper", environ=HOME)
    assert "--simulated" in caught.value.remedy


def test_the_provider_is_named():
    assert settings().provider is ProviderKind.SIMULATED
    assert settings("--provider", "simulated").provider is ProviderKind.SIMULATED
    arguments = ["--provider", "aesmd", "--aesmd-socket", "/p/aesm.socket", "--expected-root", "/r.pem"]
    parsed = parse_settings(arguments, prog="helper", environ={})
    assert (parsed.provider, parsed.aesmd_socket) == (ProviderKind.AESMD, Path("/p/aesm.socket"))
    assert parsed.expected_root == Path("/r.pem")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--simulated", "--provider", "aesmd"], "two-providers"),
        (["--provider", "aesmd", "--aesmd-socket", "/s/a", "--socket", "/s/../s/a"], "aesmd-is-this-helper"),
        (["--simulated", "--expected-root", "/r"], "flag-of-another-provider"),
        (["--provider", "aesmd", "--state-dir", "/d"], "flag-of-another-provider"),
        (["--provider", "aesmd", "--simulated-qe-isvsvn", "0"], "flag-of-another-provider"),
    ],
)
def test_flags_that_contradict_each_other(arguments, code):
    with raises(code, SettingsError, "why", "remedy"):
        parse_settings(arguments, prog="helper", environ=HOME)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/h"}, "/h/.local/state/confcom/simulation"),
        ({"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/confcom/simulation"),
        ({"HOME": "/h", "XDG_STATE_HOME": "relative"}, "/h/.local/state/confcom/simulation"),
        ({"XDG_STATE_HOME": "/x"}, "/x/confcom/simulation"),
    ],
)
def test_default_state_directory(environ, expected):
    assert default_state_dir(environ) == Path(expected)


@pytest.mark.parametrize("environ", [{}, {"HOME": ""}, {"HOME": "relative"}])
def test_without_a_home_a_state_directory_must_be_given(environ):
    with raises("no-home-directory", SettingsError, "why", "remedy"):
        parse_settings(["--simulated"], prog="helper", environ=environ)
    assert parse_settings(["--simulated", "--state-dir", "/d"], prog="helper", environ=environ).state_dir == Path("/d")


def test_the_helper_warns_of_a_platform_that_others_can_read(tmp_path, caplog):
    for bits, warnings in ((None, []), (0o640, ["0640"])):
        if bits:
            (tmp_path / "platform.json").chmod(bits)
        open_simulated(tmp_path)
        found = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(found) == len(warnings)
        assert all(part in text for part, text in zip(warnings, found, strict=True))


def test_a_quoting_enclave_of_intels_is_refused(tmp_path):
    intels = bytes.fromhex("b08903e5d5e8d13128582a7b6746a8dd1f9718f05e26465a5aae58056a882562")
    with pytest.raises(SettingsError):
        open_simulated(tmp_path, qe_mr_enclave=intels)
