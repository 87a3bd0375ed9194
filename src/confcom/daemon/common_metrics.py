"""The metrics that every daemon has: its version, lost log records, and whether it is ready."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Info, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

import confcom
from confcom.daemon.logs import LogStream
from confcom.daemon.readiness_log import NotReady


def daemon_registry(log: LogStream) -> CollectorRegistry:
    """Return a new registry with version and lost log records, and omit `_created` series, which nobody reads."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    registry.register(log.dropped)
    Info("confcom_build", "1 for the daemon's version", registry=registry).info({"version": confcom.__version__})
    return registry


class ReadinessMetrics(Collector):
    """`confcom_DAEMON_ready`, and `confcom_DAEMON_not_ready_info` with the code of the problem at each scrape."""

    def __init__(self, daemon: str, problem: Callable[[], NotReady | None]) -> None:
        self._prefix = f"confcom_{daemon}"
        self._problem = problem

    def collect(self) -> Iterator[GaugeMetricFamily]:
        problem = self._problem()
        yield GaugeMetricFamily(f"{self._prefix}_ready", "1 while /readyz answers 200", value=problem is None)
        about = "1 for the code of the problem that keeps the daemon from being ready"
        not_ready = GaugeMetricFamily(f"{self._prefix}_not_ready_info", about, labels=["code"])
        if problem is not None:
            not_ready.add_metric([problem.code], 1)
        yield not_ready
