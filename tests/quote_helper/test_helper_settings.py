from pathlib import Path

import pytest

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.errors import SettingsError
from confcom.quote_helper.quoting.simulated_backend import open_simulated
from confcom.quote_helper.settings import DEFAULT_SOCKET, ProviderKind, default_state_dir, parse_settings
from testkit.raised import raises

HOME = {"HOME": "/home/ada"}


def settings(*arguments, **environ):
    return parse_settings(["--simulated", *arguments], prog="helper", environ=HOME | environ)


def test_defaults():
    parsed = settings()
    assert parsed.socket == DEFAULT_SOCKET == Path("/var/run/aesmd/aesm.socket")
    assert parsed.state_dir == Path("/home/ada/.local/state/confcom/simulation")
    assert parsed.probe_address is None
    assert (parsed.log_level, parsed.log_format) == ("info", LogFormat.AUTO)
    assert parsed.replace_foreign_socket is False
    assert parsed.stale_report_window_seconds == 7 * 24 * 3600
    assert (parsed.simulated_qe_mr_enclave, parsed.simulated_qe_isv_svn) == (None, None)
    assert (parsed.identify_pods, parsed.log_quotes_per_peer) == (False, 60)


def test_everything_from_flags_and_from_the_environment():
    parsed = settings(
        *("--socket", "/s", "--state-dir", "/d", "--probe-address", "[::1]:1", "--log-level", "debug"),
        *("--log-format", "text", "--replace-foreign-socket", "--stale-report-window-seconds", "0"),
        *("--simulated-qe-mrenclave", "aB" * 32, "--simulated-qe-isvsvn", "65535", "--identify-pods"),
        *("--log-quotes-per-peer", "5"),
    )
    assert (parsed.socket, parsed.state_dir) == (Path("/s"), Path("/d"))
    assert parsed.probe_address == ProbeAddress("::1", 1)
    assert (parsed.log_level, parsed.log_format) == ("debug", LogFormat.TEXT)
    assert (parsed.replace_foreign_socket, parsed.stale_report_window_seconds) == (True, 0)
    assert (parsed.simulated_qe_mr_enclave, parsed.simulated_qe_isv_svn) == (b"\xab" * 32, 65535)
    assert (parsed.identify_pods, parsed.log_quotes_per_peer) == (True, 5)
    variables = {
        "CONFCOM_SIMULATED": "true",
        "CONFCOM_STATE_DIR": "/d",
        "CONFCOM_AESM_SOCKET": "/s",
        "CONFCOM_PROBE_ADDRESS": "[::1]:1",
        "CONFCOM_LOG_LEVEL": "debug",
        "CONFCOM_LOG_FORMAT": "text",
        "CONFCOM_REPLACE_FOREIGN_SOCKET": "yes",
        "CONFCOM_STALE_REPORT_WINDOW_SECONDS": "0",
        "CONFCOM_SIMULATED_QE_MRENCLAVE": "ab" * 32,
        "CONFCOM_SIMULATED_QE_ISVSVN": "65535",
        "CONFCOM_IDENTIFY_PODS": "true",
        "CONFCOM_LOG_QUOTES_PER_PEER": "5",
    }
    assert parse_settings([], prog="helper", environ=variables) == parsed


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
    ],
)
def test_an_error_names_the_flag_whose_value_is_wrong(flag, value):
    with pytest.raises(SettingsError) as caught:
        settings(f"{flag}={value}")
    assert flag in str(caught.value)


@pytest.mark.parametrize("arguments", [[], ["--no-simulated"]])
def test_without_a_platform_it_says_what_there_is(arguments):
    with pytest.raises(SettingsError) as caught:
        parse_settings(arguments, prog="helper", environ=HOME)
    assert caught.value.error_code == "provider-not-chosen"
    assert "--simulated" in caught.value.remedy


def test_the_provider_is_named():
    assert settings().provider is ProviderKind.SIMULATED
    assert settings("--provider", "simulated").provider is ProviderKind.SIMULATED
    parsed = parse_settings(
        ["--provider", "aesmd", "--aesmd-socket", "/p/aesm.socket", "--expected-root", "/r.pem"],
        prog="helper",
        environ={},
    )
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
    with pytest.raises(SettingsError) as caught:
        parse_settings(["--simulated"], prog="helper", environ=environ)
    assert caught.value.error_code == "no-home-directory"
    assert parse_settings(["--simulated", "--state-dir", "/d"], prog="helper", environ=environ).state_dir == Path("/d")


def test_the_helper_warns_of_a_platform_that_others_can_read(tmp_path, caplog):
    open_simulated(tmp_path)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    (tmp_path / "platform.json").chmod(0o640)
    open_simulated(tmp_path)
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "0640" in warning.getMessage()


def test_a_quoting_enclave_of_intels_is_refused(tmp_path):
    intels = bytes.fromhex("b08903e5d5e8d13128582a7b6746a8dd1f9718f05e26465a5aae58056a882562")
    with pytest.raises(SettingsError):
        open_simulated(tmp_path, qe_mr_enclave=intels)
