"""Keeping the state current: list, watch, resume, relist, back off."""

import pytest
from prometheus_client import CollectorRegistry

from confcom.controller.api_server.errors import ExpiredError, UnreadableError
from confcom.controller.api_server.following import Follower, NodeSink, PodSink
from confcom.controller.metrics import ControllerMetrics
from confcom.controller.reconcile.decision import Rules
from confcom.controller.reconcile.facts import Requested
from confcom.controller.reconcile.state import ClusterState
from confcom.errors import UnavailableError
from testkit.controller import EPC, RELEASE, plugin_pod, pod

RULES = Rules((EPC,), 1000, 300)


def node(name, version):
    return {"metadata": {"name": name, "resourceVersion": version}}


class Script(Exception):  # noqa: N818
    """The script is over."""


class ScriptedSource:
    """Plays steps: a list of objects, an error, or the events of a watch."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.calls: list[str] = []

    def _next(self):
        if not self.steps:
            raise Script
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def list(self, take):
        self.calls.append("list")
        version, things = self._next()
        for thing in things:
            take(thing)
        return version

    async def watch(self, version):
        self.calls.append(f"watch {version}")
        for event in self._next():
            if isinstance(event, Exception):
                raise event
            yield event


class Followed:
    now = 0.0

    def __init__(self, *steps):
        self.state = ClusterState(RULES, lambda: 0.0)
        self.source = ScriptedSource(*steps)
        self.slept: list[float] = []
        self.registry = CollectorRegistry()
        self.follower = Follower(
            "nodes",
            self.source,
            NodeSink(self.state, RULES.resources),
            metrics=ControllerMetrics(self.registry),
            changed=lambda: None,
            clock=lambda: self.now,
            jitter=lambda: 1.0,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds):
        self.slept.append(seconds)

    async def play(self):
        with pytest.raises(Script):
            await self.follower.run()


AWAY = UnavailableError("away", error_code="api-server-unavailable")


async def test_a_watch_resumes_at_the_last_change():
    run = Followed(("7", [node("a", "3")]), [("ADDED", node("b", "8"))], [("DELETED", node("a", "9"))])
    await run.play()
    assert run.source.calls == ["list", "watch 7", "watch 8", "watch 9"]
    assert list(run.state.nodes) == ["b"]
    assert run.follower.synced.is_set()


async def test_a_quiet_watch_is_contact_with_the_api_server():
    class Quiet(ScriptedSource):
        async def watch(self, version):
            async for event in super().watch(version):
                yield event
            run.now += 60

    run = Followed()
    run.follower._source = Quiet(("7", []), [], [])
    await run.play()
    assert run.follower.last_contact == 120


async def test_an_expired_watch_lists_again_and_drops_what_is_gone():
    run = Followed(("7", [node("a", "3"), node("b", "4")]), [ExpiredError("410")], ("20", [node("b", "15")]), [])
    await run.play()
    assert run.source.calls == ["list", "watch 7", "list", "watch 20", "watch 20"]
    assert list(run.state.nodes) == ["b"]
    assert run.slept == []


async def test_versions_that_are_always_too_old_cost_pauses():
    gone = [ExpiredError("410")]
    listed = ("7", [node("a", "3")])
    run = Followed(listed, gone, listed, gone, listed, gone, listed, [("MODIFIED", node("a", "9"))], gone, listed, [])
    await run.play()
    assert run.slept == [1.0, 2.0]


async def test_an_event_that_cannot_be_read_is_not_asked_for_again():
    unreadable = UnreadableError("no JSON")
    added = [("ADDED", node("a", "12"))]
    run = Followed(("7", []), [unreadable], ("9", []), [unreadable], ("11", []), added, [unreadable], ("13", []), [])
    await run.play()
    assert " ".join(run.source.calls) == ("list watch 7 list watch 9 list watch 11 watch 12 list watch 13 watch 13")
    assert run.slept == [1.0, 2.0, 1.0]


async def test_what_is_known_stays_while_the_api_server_is_away():
    run = Followed(("7", [node("a", "3")]), AWAY, AWAY, AWAY, [("MODIFIED", node("a", "8"))], AWAY)
    await run.play()
    assert list(run.state.nodes) == ["a"]
    assert run.slept == [1.0, 2.0, 4.0, 1.0]
    labels = {"code": "api-server-unavailable"}
    assert run.registry.get_sample_value("confcom_controller_api_failures_total", labels) == len(run.slept)
    run = Followed(*[AWAY] * 12)
    await run.play()
    assert max(run.slept) == run.slept[-1] == 30.0


async def test_a_list_that_breaks_off_drops_nothing():
    class Breaking(ScriptedSource):
        async def list(self, take):
            version = await super().list(take)
            if version == "broken":
                raise AWAY
            return version

    run = Followed()
    run.source.steps = [("7", [node("a", "3"), node("b", "4")]), ExpiredError("410"), ("broken", [node("a", "9")])]
    run.follower._source = Breaking(*run.source.steps)
    await run.play()
    assert sorted(run.state.nodes) == ["a", "b"]


def test_pods_that_stop_to_matter_are_dropped():
    state = ClusterState(RULES, lambda: 0.0)
    announced: list[int] = []
    sink = PodSink(state, RULES.resources, RELEASE, lambda: announced.append(1))
    tenant = pod({EPC: "3"})
    sink.take(tenant)
    assert state.requested("n") == (Requested(3, 3),)
    assert announced == []
    sink.take(plugin_pod("a"))
    assert announced == [1]
    assert state.take_unasked() == [("confcom-system", "a")]
    sink.take(tenant | {"status": {"phase": "Succeeded"}})
    assert state.requested("n") == (Requested(),)
    sink.begin()
    sink.complete()
    assert state.plugin(("confcom-system", "a")) is None
