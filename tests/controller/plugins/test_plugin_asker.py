"""Asking the device plugins."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.limits_and_deadlines import PLUGINS_AT_ONCE
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.plugins.plugin_asker import PluginAsker
from confcom.controller.reconcile.decision import Rules
from confcom.controller.reconcile.facts import PluginPod, PodFacts
from confcom.controller.reconcile.state import ClusterState
from confcom.errors import UnavailableError

EPC = "example.com/epc"
DOCUMENT = json.dumps(
    {"version": 1, "accounting": {"kind": "capacity", "resource": EPC, "advertised_mib": 64}}
).encode()


def plugin(number: int = 0, *, address: str = "10.0.0.1", incarnation: str = "i") -> PodFacts:
    return PodFacts(("system", f"p{number}"), f"n{number}", (0,), PluginPod(address, "1", incarnation), accepted=True)


class Asked:
    """An asker whose time passes when the test says so."""

    def __init__(self, fetch: Callable[[str], Awaitable[bytes]]) -> None:
        self.now = 0.0
        self.state = ClusterState(Rules((EPC,), 1000, 300), lambda: self.now)
        self.asker = PluginAsker(
            self.state,
            fetch,
            metrics=ControllerMetrics(CollectorRegistry()),
            answered=lambda: None,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )

    def has(self, *pods: PodFacts) -> None:
        for pod in pods:
            self.state.set_pod(pod.key, pod)
        self.asker.wake()

    async def until(self, seconds: float) -> None:
        self.now = seconds
        self.asker.wake()
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Asked], None]]:
    tasks: list[asyncio.Task[None]] = []
    yield lambda asked: tasks.append(asyncio.ensure_future(asked.asker.run()))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_plugin_is_asked_when_it_appears_when_it_changes_and_from_time_to_time(
    running: Callable[[Asked], None],
) -> None:
    addresses: list[str] = []

    async def fetch(address: str) -> bytes:
        addresses.append(address)
        return DOCUMENT

    asked = Asked(fetch)
    running(asked)
    asked.has(plugin())
    await asked.until(1)
    assert addresses == ["10.0.0.1"]
    assert asked.state.plugins_by_accounting()["capacity"] == 1
    await asked.until(590)
    assert len(addresses) == 1
    await asked.until(610)
    assert len(addresses) == 2
    asked.has(plugin(incarnation="restarted", address="10.0.0.2"))
    await asked.until(611)
    assert addresses[2:] == ["10.0.0.2"]


async def test_a_plugin_that_has_restarted_often_is_asked_as_rarely_as_others(
    running: Callable[[Asked], None],
) -> None:
    moments: list[float] = []

    async def fetch(address: str) -> bytes:
        moments.append(asked.now)
        return DOCUMENT

    asked = Asked(fetch)
    running(asked)
    for restarts in range(5):
        asked.has(plugin(incarnation=str(restarts)))
        await asked.until(restarts)
    for second in range(10, 700):
        await asked.until(second)
    assert len(moments) == 6
    assert moments[:5] == [0, 1, 2, 3, 4]


async def test_a_plugin_that_does_not_answer_is_asked_again_ever_more_rarely(
    running: Callable[[Asked], None], caplog: pytest.LogCaptureFixture
) -> None:
    moments: list[float] = []

    async def fetch(address: str) -> bytes:
        moments.append(asked.now)
        raise UnavailableError("away")

    asked = Asked(fetch)
    running(asked)
    asked.has(plugin())
    for second in range(120):
        await asked.until(second)
    assert [one.pod for one in caplog.records][:1] == ["p0"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert gaps == sorted(gaps)
    assert 6 <= len(moments) <= 12


async def test_one_failure_is_usual_and_not_logged(
    running: Callable[[Asked], None], caplog: pytest.LogCaptureFixture
) -> None:
    answers = [UnavailableError("starting")]

    async def fetch(address: str) -> bytes:
        if answers:
            raise answers.pop()
        return DOCUMENT

    asked = Asked(fetch)
    running(asked)
    asked.has(plugin())
    for second in range(30):
        await asked.until(second)
    assert asked.state.plugins_by_accounting()["capacity"] == 1
    assert caplog.records == []


async def test_an_answer_that_is_no_inventory_leaves_the_plugin_unknown(running: Callable[[Asked], None]) -> None:
    async def fetch(address: str) -> bytes:
        return b"<html>"

    asked = Asked(fetch)
    running(asked)
    asked.has(plugin())
    await asked.until(1)
    assert asked.state.plugins_by_accounting() == {"unknown": 1}


async def test_a_plugin_without_an_address_or_that_is_gone_is_not_asked(running: Callable[[Asked], None]) -> None:
    addresses: list[str] = []

    async def fetch(address: str) -> bytes:
        addresses.append(address)
        raise UnavailableError("away")

    asked = Asked(fetch)
    running(asked)
    asked.has(plugin(0, address=""), plugin(1))
    await asked.until(0.1)
    asked.state.set_pod(("system", "p1"), None)
    await asked.until(100)
    assert addresses == ["10.0.0.1"]


async def test_only_some_plugins_are_asked_at_the_same_time(running: Callable[[Asked], None]) -> None:
    release = asyncio.Event()
    waiting = most = 0

    async def fetch(address: str) -> bytes:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await release.wait()
        waiting -= 1
        return DOCUMENT

    asked = Asked(fetch)
    running(asked)
    asked.has(*(plugin(number) for number in range(4 * PLUGINS_AT_ONCE)))
    await asked.until(1)
    assert most == PLUGINS_AT_ONCE
    release.set()
    for _ in range(5):
        await asked.until(2)
    assert most == PLUGINS_AT_ONCE
    assert asked.state.plugins_by_accounting()["capacity"] == 4 * PLUGINS_AT_ONCE


async def test_a_new_plugin_is_asked_before_those_that_did_not_answer(running: Callable[[Asked], None]) -> None:
    addresses: list[str] = []
    ends = asyncio.Semaphore(10 * PLUGINS_AT_ONCE)

    async def fetch(address: str) -> bytes:
        addresses.append(address)
        await ends.acquire()
        raise UnavailableError("its node is dead")

    asked = Asked(fetch)
    running(asked)
    asked.has(*(plugin(number) for number in range(10 * PLUGINS_AT_ONCE)))
    for _ in range(10):
        await asked.until(1)
    assert len(addresses) == 10 * PLUGINS_AT_ONCE  # each once; all places are taken again when they are due
    await asked.until(60)
    assert len(addresses) == 11 * PLUGINS_AT_ONCE
    asked.has(plugin(9999, address="10.0.0.2"))
    await asked.until(61)
    ends.release()
    await asked.until(61)
    assert addresses[11 * PLUGINS_AT_ONCE :] == ["10.0.0.2"]
