import contextlib
import os
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from confcom.addon.change import EXPIRES_SECONDS, LEASE_NAME, ChangeRefusedError, hold_lease, holder_name
from testkit.conditions import until, wait_until
from testkit.expected_errors import raises
from testkit.fake_api import FakeApi, cluster_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def server():
    return FakeApi()


def held(server, holder="one", now=NOW, **options):
    add_on = SimpleNamespace(cluster=cluster_of(server), now=now if callable(now) else lambda: now)
    return hold_lease(add_on, holder, **options)


def lease(server):
    return server.find("Lease", LEASE_NAME)


@pytest.mark.parametrize(
    ("later", "left"), [(0, 30), (EXPIRES_SECONDS - 1, 1), (EXPIRES_SECONDS, None)], ids=["at once", "late", "expired"]
)
def test_a_second_change_is_refused_until_the_lease_expires(server, later, left):
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(server))
        second = held(server, "two", NOW + timedelta(seconds=later))
        if left is None:
            stack.enter_context(second)
            assert lease(server)[0]["spec"]["holderIdentity"].startswith("two by")
            return
        with raises("change-running", ChangeRefusedError) as caught:
            stack.enter_context(second)
        assert "one" in caught.value.why
        assert f"{left} s" in caught.value.remedy
        assert lease(server)[0]["spec"]["holderIdentity"].startswith("one by")


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_however_a_change_ends_the_next_one_begins(server, remove, error):
    with contextlib.suppress(ValueError, KeyboardInterrupt), held(server, remove=remove):
        assert lease(server)[0]["spec"]["leaseDurationSeconds"] == EXPIRES_SECONDS
        if error:
            raise error
    assert bool(lease(server)) is not (remove and error is None)
    with held(server, "two"):
        pass


def test_a_lease_of_another_holder_is_left_to_it(server):
    """A holder that was suspended while a second holder took the Lease does not free the Lease later."""
    late = NOW + timedelta(minutes=1)
    with held(server, renew_seconds=0.01), contextlib.ExitStack() as stack:
        stack.enter_context(held(server, "two", late))
        first = stack.pop_all()
        asked = len(server.requests)
        wait_until(lambda: len(server.requests) > asked + 3)
    assert lease(server)[0]["spec"]["holderIdentity"].startswith("two by")
    first.close()


def test_a_user_without_a_name_is_a_number(monkeypatch):
    """The environment is that of a container whose user ID has no name."""
    monkeypatch.delenv("USER", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)
    monkeypatch.delenv("LOGNAME", raising=False)
    assert "by user 54321 on" in holder_name("enable")
    monkeypatch.setenv("LOGNAME", "ann")
    assert "by ann on" in holder_name("enable")


async def test_it_is_renewed_while_the_change_runs(server):
    times = (NOW + timedelta(seconds=second) for second in range(10_000))
    with held(server, now=lambda: next(times), renew_seconds=0.01):
        await until(lambda: lease(server)[0]["spec"]["renewTime"] > "2026-01-01T00:00:05")
        server.unreachable = True
        count = len(server.requests)
        await until(lambda: len(server.requests) > count + 2)
        server.unreachable = False
    assert lease(server)[0]["spec"]["holderIdentity"] == ""
