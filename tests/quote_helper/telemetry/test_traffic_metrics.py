"""What is counted as plain numbers is shown as prometheus_client's own metrics would show it; stalls are noticed."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import MessageKind
from confcom.quote_helper.telemetry.metrics import watch_loop
from confcom.quote_helper.telemetry.traffic_metrics import BUCKETS, TrafficMetrics

KINDS = st.sampled_from([MessageKind.GET_QUOTE_EX, MessageKind.INIT_QUOTE_EX, MessageKind.INIT_QUOTE])
SECONDS = st.sampled_from([*BUCKETS, 0.0, 16.0]) | st.floats(0, 60)
ANSWERS = st.lists(st.tuples(KINDS, st.sampled_from(AesmErrorCode), SECONDS))


def usual(answers, connections):
    """The same counted by prometheus_client."""
    registry = CollectorRegistry()
    requests = Counter("confcom_quote_helper_requests", "", ["request", "result"], registry=registry)
    seconds = Histogram("confcom_quote_helper_request_seconds", "", ["request"], buckets=BUCKETS, registry=registry)
    accepted = Counter("confcom_quote_helper_connections_accepted", "", registry=registry)
    for kind, code, duration in answers:
        requests.labels(kind.call, code.name.lower()).inc()
        seconds.labels(kind.call).observe(duration)
    accepted.inc(connections)
    return registry


def shown(registry):
    """Everything but texts, and the times at which series were made, in any order."""
    lines = generate_latest(registry).decode().splitlines()
    return {line for line in lines if "_created" not in line and not line.startswith("# HELP")}


@given(answers=ANSWERS, connections=st.integers(0, 9))
def test_as_prometheus_client_counts(answers, connections):
    registry = CollectorRegistry()
    traffic = TrafficMetrics()
    registry.register(traffic)
    traffic.accepted = lambda: connections
    for kind, code, duration in answers:
        traffic.answered(kind, code, duration)
    assert shown(registry) == shown(usual(answers, connections))


def test_the_registry_knows_its_names():
    registry = CollectorRegistry()
    registry.register(TrafficMetrics())
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("confcom_quote_helper_requests", "again", registry=registry)


async def test_a_blocked_loop_is_told():
    stalls = asyncio.Queue()
    watch = asyncio.create_task(watch_loop(time.perf_counter, stalls.put_nowait))
    await stalls.get()
    time.sleep(0.3)  # noqa: ASYNC251 # this is what is to be noticed
    assert await stalls.get() >= 0.2
    watch.cancel()
