import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from unittest.mock import AsyncMock

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.decision import PluginPod, Rules
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.plugin_inventories import (
    INVENTORY_BYTES,
    PLUGINS_AT_ONCE,
    PluginInventories,
    fetch_inventory,
)
from confcom.controller.state import ClusterState
from confcom.daemon.probe_server import ProbeAddress, ProbeResponse, serve_probes
from confcom.errors import MalformedError, UnavailableError
from testkit.controller import http
from testkit.expected_errors import raises

EPC = "example.com/epc"
ACCOUNTING = {"kind": "capacity", "resource": EPC, "advertised_mib": 64}
DOCUMENT = json.dumps({"version": 1, "accounting": ACCOUNTING}).encode()
document, html = (AsyncMock(return_value=one) for one in (DOCUMENT, b"<html>"))
away = AsyncMock(side_effect=UnavailableError("away"))


def plugin(number=0, *, address="10.0.0.1", incarnation="i"):
    return PluginPod(f"p{number}", f"n{number}", address, "1", incarnation)


class Asked:
    """Asks plugins; only the test advances the clock. Each call uses one of `answers`, except the last."""

    def __init__(self):
        self.now = 0.0
        self.answers: list[Callable[[], Awaitable[bytes]]] = [document]
        self.calls: list[tuple[float, str]] = []
        self.state = ClusterState(Rules((EPC,), 1000, 300), lambda: self.now)
        self.asker = PluginInventories(
            self.state,
            self._fetch,
            ControllerMetrics(CollectorRegistry()),
            answered=lambda: None,
            clock=lambda: self.now,
            jitter=lambda: 0.5,
        )

    async def _fetch(self, address):
        self.calls.append((self.now, address))
        return await (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])()

    @property
    def moments(self):
        return [moment for moment, _ in self.calls]

    @property
    def addresses(self):
        return [address for _, address in self.calls]

    def has(self, *plugins):
        for one in plugins:
            if self.state.set_plugin(one):
                self.asker.ask(one)

    async def until(self, seconds):
        self.now = seconds
        self.asker._wake.set()
        for _ in range(30):
            await asyncio.sleep(0)


@pytest.fixture
async def asked():
    made = Asked()
    task = asyncio.ensure_future(made.asker.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_plugin_is_asked_at_changes_and_from_time_to_time(asked):
    asked.has(plugin())
    await asked.until(1)
    assert asked.addresses == ["10.0.0.1"]
    assert (asked.state.count_plugins("capacity"), asked.state.count_plugins("unknown")) == (1, 0)
    await asked.until(590)
    assert len(asked.calls) == 1
    await asked.until(610)
    assert len(asked.calls) == 2
    asked.has(plugin(incarnation="restarted", address="10.0.0.2"))
    await asked.until(611)
    assert asked.addresses[2:] == ["10.0.0.2"]


async def test_many_restarts_make_no_shorter_pause(asked):
    for restarts in range(5):
        asked.has(plugin(incarnation=str(restarts)))
        await asked.until(restarts)
    for second in range(10, 700):
        await asked.until(second)
    assert len(asked.calls) == 6
    assert asked.moments[:5] == [0, 1, 2, 3, 4]


async def test_a_silent_plugin_is_asked_ever_more_rarely(asked, caplog):
    asked.answers = [away]
    asked.has(plugin())
    for second in range(120):
        await asked.until(second)
    assert [one.pod for one in caplog.records][:1] == ["p0"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(asked.moments)]
    assert gaps == sorted(gaps)
    assert 6 <= len(asked.calls) <= 12


async def test_one_failure_is_usual_and_not_logged(asked, caplog):
    asked.answers = [away, document]
    asked.has(plugin())
    for second in range(30):
        await asked.until(second)
    assert asked.state.count_plugins("capacity") == 1
    assert caplog.records == []


async def test_who_cannot_be_asked_stays_unknown(asked):
    asked.answers = [html]
    asked.has(plugin(0, address=""), plugin(1))
    await asked.until(0.1)
    assert asked.state.count_plugins("unknown") == 2
    asked.state.remove_plugin("p1")
    await asked.until(100)
    assert asked.addresses == ["10.0.0.1"]


async def test_only_some_plugins_are_asked_at_the_same_time(asked):
    release = asyncio.Event()
    waiting = most = 0

    async def wait():
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        await release.wait()
        waiting -= 1
        return DOCUMENT

    asked.answers = [wait]
    asked.has(*(plugin(number) for number in range(4 * PLUGINS_AT_ONCE)))
    await asked.until(1)
    assert most == PLUGINS_AT_ONCE
    release.set()
    for _ in range(5):
        await asked.until(2)
    assert most == PLUGINS_AT_ONCE
    assert asked.state.count_plugins("capacity") == 4 * PLUGINS_AT_ONCE


async def test_a_new_plugin_is_asked_before_silent_ones(asked):
    ends = asyncio.Semaphore(10 * PLUGINS_AT_ONCE)

    async def wait():
        await ends.acquire()
        raise UnavailableError("its node is dead")

    asked.answers = [wait]
    asked.has(*(plugin(number) for number in range(10 * PLUGINS_AT_ONCE)))
    for _ in range(10):
        await asked.until(1)
    assert len(asked.calls) == 10 * PLUGINS_AT_ONCE  # one call for each plugin
    await asked.until(60)
    assert len(asked.calls) == 11 * PLUGINS_AT_ONCE
    asked.has(plugin(9999, address="10.0.0.2"))
    await asked.until(61)
    ends.release()
    await asked.until(61)
    assert asked.addresses[11 * PLUGINS_AT_ONCE :] == ["10.0.0.2"]


async def test_the_plugins_own_server_is_understood():
    routes = {"/inventory": lambda: ProbeResponse(DOCUMENT, content_type="application/json")}
    with serve_probes(routes, ProbeAddress("127.0.0.1", 0)) as address:
        assert await fetch_inventory("127.0.0.1", address.port) == DOCUMENT


@pytest.mark.parametrize(
    "answer",
    [
        http(200, b"x" * (INVENTORY_BYTES + 1)),
        http(302, b"").replace(b"\r\n\r\n", b"\r\nLocation: /elsewhere\r\n\r\n"),
        b"SSH-2.0-x\r\n",
    ],
)
async def test_another_answer_is_refused(server, answer):
    server.answers = [answer]
    with raises("inventory-malformed", MalformedError):
        await fetch_inventory("127.0.0.1", server.port)


async def test_nobody_answers(server):
    for address in ("127.0.0.2", "::1"):
        with raises("plugin-unavailable", UnavailableError):
            await fetch_inventory(address, server.port)
