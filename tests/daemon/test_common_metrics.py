import io

from prometheus_client import Counter, generate_latest

import confcom
from confcom.daemon.common_metrics import ReadinessMetrics, daemon_registry
from confcom.daemon.logs import LogStream
from confcom.daemon.readiness_log import NotReady


def test_readiness_is_that_of_the_scrape():
    problems = [NotReady("a reason", code="some-code"), None]
    registry = daemon_registry(LogStream(io.StringIO()))
    registry.register(ReadinessMetrics("test", lambda: problems[0]))
    ready, info = "confcom_test_ready", ("confcom_test_not_ready_info", {"code": "some-code"})
    assert (registry.get_sample_value(ready), registry.get_sample_value(*info)) == (0, 1)
    del problems[0]
    assert (registry.get_sample_value(ready), registry.get_sample_value(*info)) == (1, None)


def test_the_version_is_told_and_no_counter_tells_its_birth():
    registry = daemon_registry(LogStream(io.StringIO()))
    Counter("requests", "Requests", registry=registry).inc()
    assert registry.get_sample_value("confcom_build_info", {"version": confcom.__version__}) == 1
    assert "_created" not in generate_latest(registry).decode()
