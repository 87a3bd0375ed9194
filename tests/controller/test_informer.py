import asyncio
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.api_server import Informer
from confcom.controller.metrics import ControllerMetrics
from confcom.kubernetes.objects import name_of
from testkit.conditions import until
from testkit.controller import http, node

NODES = "/api/v1/nodes"
GONE = http(410, {"message": "too old"})
AWAY = http(503, {"message": "away"})
UNREADABLE = b"HTTP/1.1 200 OK\r\n\r\n<html>\n"
FAILED = b'HTTP/1.1 200 OK\r\n\r\n{"type": "ERROR", "object": {"code": 500, "message": "it failed"}}\n'


class Followed:
    """An informer, and a record of its calls; the informer's pauses advance the clock."""

    def __init__(self, server, connection):
        self.server = server
        self.names: dict[str, None] = {}
        self.lost: list[str] = []
        self.slept: list[float] = []
        self.now = 0.0
        registry = CollectorRegistry()
        handlers = (self._take, self._lose, self.names)
        parts = (connection, ControllerMetrics(registry), lambda: None, lambda: self.now, lambda: 0.0, self._sleep)
        self.follower = Informer("nodes", NODES, "", "sgx=yes", *handlers, *parts)
        self.failures = lambda code: registry.get_sample_value("confcom_controller_api_failures_total", {"code": code})

    def _take(self, thing):
        self.names[name_of(thing)] = None

    def _lose(self, name):
        self.names.pop(name, None)
        self.lost.append(name)

    async def _sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    @property
    def asked(self):
        """Requests so far: `list` for a list, and for a watch the version at which the watch began."""
        return [query.get("resourceVersion", "list") for _, path, query in self.server.log if path == NODES]


@pytest.fixture
async def run(server, connection):
    server.put("nodes", node({}, name="a"))
    made = Followed(server, connection)
    task = asyncio.ensure_future(made.follower.run())
    await until(lambda: len(made.asked) == 2)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_is_listed_and_what_is_selected_watched(run, server):
    assert run.follower.synced.is_set()
    server.put("nodes", node({}, name="b"))
    await until(lambda: run.names.keys() == {"a", "b"})
    server.lose("nodes", node({}, name="b"))
    await until(lambda: run.lost == ["b"])
    assert [query.get("labelSelector", "") for _, _, query in server.log] == ["", "sgx=yes"]
    assert server.log[1][2]["allowWatchBookmarks"] == "true"


async def test_a_watch_resumes_at_the_last_change(run, server):
    server.put("nodes", node({}, name="b"))
    await until(lambda: run.names.keys() == {"a", "b"})
    for asked in (3, 4):
        server.end_watches()
        await until(lambda asked=asked: len(run.asked) == asked)
    assert run.asked == ["list", "2", "3", "3"]


async def test_a_bookmark_is_a_version_to_resume_at(run, server):
    server.bookmark("nodes")
    await until(lambda: run.follower._version == "3")
    assert run.names.keys() == {"a"}


@pytest.mark.parametrize("answer", [GONE, FAILED])
async def test_a_watch_that_failed_lists_again_and_drops_what_is_gone(run, server, answer):
    server.put("nodes", node({}, name="b"), told=False)
    server.delete("nodes", "a", told=False)
    server.answers = [answer]
    server.end_watches()
    await until(lambda: run.names.keys() == {"b"})
    await until(lambda: len(run.asked) == 5)
    assert run.asked == ["list", "2", "2", "list", "4"]


async def test_an_object_that_cannot_be_taken_ends_nothing(run, server):
    run.follower.take = Mock(side_effect=ValueError("its resourceVersion is no number"))
    server.put("nodes", node({}, name="b"))
    await until(lambda: run.follower.problem)
    run.follower.take = run._take
    await until(lambda: run.names.keys() == {"a", "b"})
    assert run.asked[:3] == ["list", "2", "list"]


@pytest.mark.parametrize("answer", [GONE, UNREADABLE, FAILED, AWAY])
async def test_what_fails_again_and_again_costs_longer_pauses(run, server, answer):
    run.slept.clear()
    server.answers = [answer, None if answer != AWAY else AWAY] * 8
    server.end_watches()
    await until(lambda: len(run.slept) >= 8)
    assert run.slept[:7] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert run.names.keys() == {"a"}


async def test_the_problem_is_told_until_it_is_over(run, server):
    server.answers = [AWAY, AWAY]
    server.end_watches()
    await until(lambda: run.follower.problem)
    assert run.failures("api-server-unavailable")
    server.put("nodes", node({}, name="b"))
    await until(lambda: not run.follower.problem)
    assert run.follower.last_contact == run.now


async def test_a_list_that_breaks_off_drops_nothing(run, server):
    half = http(200, {"metadata": {"resourceVersion": "9", "continue": "1"}, "items": []})
    server.answers = [GONE, half, AWAY]
    server.end_watches()
    await until(lambda: len(run.slept) >= 2)
    assert run.names.keys() == {"a"}
