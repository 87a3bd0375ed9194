"""When a source is asked again: pauses, what a source demands, and the file that keeps both."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confcom.collateral.backoff import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    LONGEST_PAUSE_WITHOUT_SET_SECONDS,
    LONGEST_RETRY_AFTER_SECONDS,
    UNKNOWN_PLATFORM_SECONDS,
    Backoff,
    retry_after_seconds,
)
from confcom.collateral.fetch_errors import FetchError

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


def failed(times, *, code="source-failed", retry_after="", jitter=0.0):
    backoff = None
    for _ in range(times):
        error = FetchError("it failed", error_code=code)
        error.retry_after = retry_after
        backoff = Backoff.after_failure(error, backoff, NOW, lambda: jitter)
    return backoff


def seconds(backoff, *, held):
    return backoff.until(held=held) - NOW.timestamp()


def test_pauses_double_between_floor_and_ceiling():
    pauses = [seconds(failed(times), held=True) for times in range(1, 12)]
    assert pauses[:4] == [FIRST_PAUSE_SECONDS * 2**power for power in range(4)]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    assert {seconds(failed(times), held=False) for times in range(2, 100, 7)} == {LONGEST_PAUSE_WITHOUT_SET_SECONDS}
    assert seconds(failed(1, jitter=0.999), held=True) > FIRST_PAUSE_SECONDS / 2


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("120", 120),
        (" 120 ", 120),
        ("Tue, 01 Dec 2026 12:05:00 GMT", 300),
        ("Tuesday, 01-Dec-26 12:05:00 GMT", 300),
        ("Tue Dec  1 12:05:00 2026", 300),
        ("Tue, 01 Dec 2026 14:05:00 +0200", 300),
        ("Tue, 01 Dec 2026 11:00:00 GMT", 0),
        ("", 0),
        ("-5", 0),
        ("1e3", 0),
        ("soon", 0),
        ("Tue, 99 Dec 99999 12:05:00 GMT", 0),
        ("9" * 100_000, 0),
    ],
)
def test_what_a_source_asks_for(text, asked):
    assert retry_after_seconds(text, NOW) == asked
    assert seconds(failed(1, retry_after=text), held=True) == max(asked, FIRST_PAUSE_SECONDS)


def test_a_demand_is_bounded_and_a_404_has_a_known_time():
    for held in (True, False):
        assert seconds(failed(1, retry_after="999999999"), held=held) == LONGEST_RETRY_AFTER_SECONDS
        assert seconds(failed(1, code="source-unknown-platform"), held=held) == UNKNOWN_PLATFORM_SECONDS


def test_a_record_of_the_future_holds_nothing():
    backoff = failed(5)
    assert backoff.holds(NOW, held=True)
    assert not backoff.holds(NOW - timedelta(seconds=1), held=True)
    assert not backoff.holds(datetime.fromtimestamp(backoff.until(held=True), UTC), held=True)


GOOD = json.loads(failed(2).encode())
HOSTILE = {
    "nothing": b"",
    "no JSON": b"\xff{",
    "a list": b"[]",
    "nested": b"[" * 15_000,
    "no members": b"{}",
    "a long number": b'{"at": ' + b"9" * 9000 + b"}",
    **{
        f"{name} {value!r:.20}": json.dumps(GOOD | {name: value}).encode()
        for name, values in {
            "at": (1e300, float("nan"), float("inf"), "x", None),
            "failures": (-1, 0, 10**30, 1.5, "1"),
            "pause": (-1, float("nan"), "x", [], 10**400),
            "demanded": (-1, float("nan"), {}),
            "code": ("", "A", "a b", "x" * 65, "a\n", 3),
            "problem": (3, None),
            "other": (1,),
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_file_that_cannot_be_meant_says_nothing(data):
    assert Backoff.decode(data) is None


@given(st.binary() | st.recursive(st.none() | st.floats() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_no_file_is_an_error(data):
    data = data.encode() if isinstance(data, str) else data
    assert Backoff.decode(data) is None


@given(
    st.integers(1, 2**31 - 1),
    st.floats(0, 1e11),
    st.floats(0, 1e11),
    st.floats(0, 1e11),
    st.text(max_size=100),
)
def test_round_trip(failures, pause, demanded, at, problem):
    backoff = Backoff(at, failures, pause, demanded, "source-busy", problem)
    assert Backoff.decode(backoff.encode()) == backoff
    assert backoff.until(held=True) <= at + 3600
