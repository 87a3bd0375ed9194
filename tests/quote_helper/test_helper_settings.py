from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.aesm.session import MAX_REQUEST_SIZE
from confcom.daemon.probe_server import ProbeAddress
from confcom.errors import SettingsError
from confcom.quote_helper.limits_and_deadlines import (
    DEFAULT_MEMORY_LIMIT_MIB,
    MIB,
    POOL_PART,
    UNREAD_OVERHEAD,
    UNREAD_RESERVE,
    HelperLimits,
)
from confcom.quote_helper.quoting.simulated_backend import open_simulated
from confcom.quote_helper.settings import ProviderKind, parse_settings
from confcom.quote_helper.takeover.socket_keeper import BACKLOG
from confcom.quote_helper.transport.connections import FEW_CONNECTIONS
from confcom.quote_provider.state_directory import default_state_dir
from confcom.relay.provider import CALL_SECONDS, AesmdQuoteProvider
from testkit.expected_errors import raises
from testkit.hardware_causes import CAUSES

HOME = {"HOME": "/home/ada"}


def settings(*arguments, **environ):
    return parse_settings(["--simulated", *arguments], prog="helper", environ=HOME | environ)


EVERYTHING = {
    "STATE_DIR": ("/d", Path("/d")),
    "PROBE_ADDRESS": ("[::1]:1", ProbeAddress("::1", 1)),
    "LOG_LEVEL": ("debug", "debug"),
    "OPEN_TO_ALL_USERS": ("yes", True),
    "STALE_REPORT_WINDOW_SECONDS": ("0", 0),
    "SIMULATED_QE_MRENCLAVE": ("aB" * 32, b"\xab" * 32),
    "SIMULATED_QE_ISVSVN": ("65535", 65535),
    "IDENTIFY_PODS": ("1", True),
    "LOG_QUOTES_PER_PEER": ("all", "all"),
    "MEMORY_LIMIT_MIB": ("128", 128),
}
"""A variable's text and the resulting value, keyed by the variable's name without its prefix."""


def test_everything_by_flags_and_by_the_environment():
    fields = {name.lower(): value for name, (_, value) in EVERYTHING.items()}
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


def test_the_provider_is_named():
    assert settings().provider is ProviderKind.SIMULATED
    assert settings("--provider", "simulated").provider is ProviderKind.SIMULATED
    arguments = ["--provider", "aesmd", "--aesmd-socket", "/p/aesm.socket", "--expected-root", "/r.pem"]
    parsed = parse_settings(arguments, prog="helper", environ={})
    assert (parsed.provider, parsed.aesmd_socket) == (ProviderKind.AESMD, Path("/p/aesm.socket"))
    assert parsed.expected_root == Path("/r.pem")


@pytest.mark.parametrize(
    ("arguments", "code", "advice"),
    [
        ([], "provider-not-chosen", "--simulated"),
        (["--no-simulated"], "provider-not-chosen", "--simulated"),
        (["--simulated", "--provider", "aesmd"], "provider-not-chosen", "--simulated"),
        (["--provider", "aesmd", "--aesmd-socket", "/s/a", "--socket", "/s/../s/a"], "aesmd-is-this-helper", ""),
    ],
)
def test_flags_without_one_provider_are_refused(arguments, code, advice):
    with raises(code, SettingsError, "why", "remedy") as caught:
        parse_settings(arguments, prog="helper", environ=HOME)
    assert advice in caught.value.remedy


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
        default_state_dir(environ)
    for path in ("/d", "."):
        parsed = parse_settings(["--simulated", "--state-dir", path], prog="helper", environ=environ)
        assert parsed.state_dir == Path(path).absolute()


def test_the_helper_warns_of_a_platform_that_others_can_read(tmp_path, caplog):
    open_simulated(tmp_path)
    assert caplog.records == []
    (tmp_path / "simulated-root" / "seed").chmod(0o640)
    open_simulated(tmp_path)
    assert ["0640" in record.getMessage() for record in caplog.records] == [True]


# Tests of limits that depend on the number of descriptors that a process may have.


DEFAULTS = HelperLimits()


def test_nothing_changes_with_enough_descriptors():
    assert DEFAULTS.with_descriptors(DEFAULTS.descriptors) == DEFAULTS


@given(available=st.integers(1, 10_000), places=st.integers(1, 50_000))
def test_few_descriptors_lower_places_and_no_memory(available, places):
    wanted = HelperLimits(max_connections=places)
    limits = wanted.with_descriptors(available)
    if limits != wanted:
        assert 1 <= limits.max_waiting <= limits.max_connections <= min(places, max(available * 2 / 3, 1))
    assert limits.unread_memory == wanted.unread_memory


def test_memory_for_clients_leaves_room_for_answers_of_ended_helpers():
    """Memory for ten restarts, the helper itself, and connections, each with 2.3 KiB and a request."""
    itself, restarts = 60 << 20, 10
    answered = DEFAULTS.unread_memory // UNREAD_OVERHEAD
    connections = (DEFAULTS.max_connections + answered) * 2355 + DEFAULTS.max_connections * MAX_REQUEST_SIZE * 9 // 8
    assert itself + connections + (restarts + 1) * DEFAULTS.unread_memory <= DEFAULT_MEMORY_LIMIT_MIB * MIB


# Tests of the reference page.


PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "quote-helper.md").read_text()


def test_limits():
    limits = HelperLimits()
    assert f"| {limits.max_connections:,}, less" in PAGE
    assert f"| {BACKLOG:,}, cut" in PAGE
    assert f"| {limits.max_waiting:,}; of one peer" in PAGE
    assert f"{UNREAD_RESERVE // 1024} KiB of each peer" in PAGE
    assert f"one part in {POOL_PART} of the rest" in PAGE
    assert f"the oldest of all clients after {limits.crowded_seconds:g} s" in PAGE
    assert f"if no peer has, the oldest after {limits.many_peers_seconds:g} s" in PAGE
    assert f"if it has more than {limits.max_connections // FEW_CONNECTIONS};" in PAGE
    assert f"{limits.accept_seconds * 1000:g} ms for accepting, {limits.turn_seconds * 1000:g} ms" in PAGE
    assert f"| calls at once in aesmd | {AesmdQuoteProvider.max_concurrent_calls} |" in PAGE
    assert f"every {limits.self_test_interval_seconds:g} s" in PAGE
    assert f"after {limits.self_test_seconds:g} s" in PAGE
    assert f"18 (BUSY) after {limits.peer_wait_seconds:g} s" in PAGE
    for seconds in (limits.whole_request_seconds, limits.provider_wait_seconds, CALL_SECONDS):
        assert f"| {seconds:g} s |" in PAGE
    assert f"For {limits.accept_drain_seconds:g} s after the path is gone or taken, the stopped helper serves" in PAGE
    assert f"which takes at most {limits.drain_seconds:g} s" in PAGE


def test_what_causes_what():
    """The tests of the relay check that the same rows are true."""
    section = PAGE.partition("## What causes what on hardware")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    assert all(advice for *_, advice in rows)
    assert [row[:-1] for row in rows[1:]] == [
        [
            cause.name,
            str(cause.answers) if isinstance(cause.answers, int) else " / ".join(map(str, cause.answers)),
            str(cause.clients),
            cause.restarts,
        ]
        for cause in CAUSES
    ]
