"""The reference page names every flag, variable, metric and limit that there is."""

import io
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from confcom.daemon.log_stream import LogMetrics, LogStream
from confcom.quote_helper.helper import make_observations
from confcom.quote_helper.limits_and_deadlines import BACKLOG, PEER_MEMORY_PART, HelperLimits
from confcom.quote_helper.settings import parse_settings
from confcom.quote_helper.telemetry.metrics import HelperMetrics
from confcom.quote_helper.transport.connection_table import FEW_CONNECTIONS
from confcom.quote_provider.aesmd_calls import CONCURRENT_CALLS
from testkit.hardware_causes import CAUSES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "quote-helper.md").read_text()


def test_flags_and_variables(capsys):
    with pytest.raises(SystemExit):
        parse_settings(["--help"], prog="p", environ={})
    text = capsys.readouterr().out.partition("examples:")[0]
    flags = set(re.findall(r"--[a-z-]+", text)) - {"--help"}
    flags = {name for name in flags if not name.startswith("--no-")}
    variables = set(re.findall(r"CONFCOM_[A-Z_]+", text))
    assert len(flags) == len(variables) >= 10
    assert {name for name in flags | variables if f"`{name}" not in PAGE} == set()


def test_metrics():
    registry = CollectorRegistry()
    settings = parse_settings(["--simulated"], prog="p", environ={"HOME": "/h"})
    make_observations(
        settings, metrics=HelperMetrics(registry), registry=registry, clock=lambda: 0.0, wall_clock=lambda: 0.0
    )
    LogMetrics(LogStream(io.StringIO()), registry)
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        assert f"`{name}`" in PAGE


def test_limits():
    limits = HelperLimits()
    assert f"| {limits.max_connections:,}, less" in PAGE
    assert f"| {BACKLOG:,}, cut" in PAGE
    assert f"| {limits.max_waiting:,}; of one peer" in PAGE
    assert f"one part in {PEER_MEMORY_PART} of it" in PAGE
    assert f"the oldest after {limits.crowded_seconds:g} s" in PAGE
    assert f"if no peer has, the oldest after {limits.many_peers_seconds:g} s" in PAGE
    assert f"more than {limits.max_connections // FEW_CONNECTIONS} connections" in PAGE
    assert f"{limits.turn_seconds * 1000:g} ms for accepting" in PAGE
    assert f"| calls at once in aesmd | {CONCURRENT_CALLS} |" in PAGE
    assert f"every {limits.self_test_interval_seconds:g} s" in PAGE
    assert f"after {limits.self_test_seconds:g} s" in PAGE
    assert f"18 (BUSY) after {limits.peer_wait_seconds:g} s" in PAGE
    for seconds in (
        limits.first_byte_seconds,
        limits.whole_request_seconds,
        limits.provider_wait_seconds,
        limits.call_seconds,
        limits.write_seconds,
    ):
        assert f"| {seconds:g} s |" in PAGE
    assert f"still served for {limits.accept_drain_seconds:g} s" in PAGE
    assert f"answered within {limits.drain_seconds:g} s" in PAGE


def test_what_causes_what():
    """The tests of the relay go through the same rows."""
    section = PAGE.partition("## What causes what on hardware")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    assert all(advice for *_, advice in rows)
    assert [row[:-1] for row in rows[1:]] == [
        [
            cause.name,
            str(cause.answers) if isinstance(cause.answers, int) else " / ".join(map(str, cause.answers)),
            str(cause.clients),
            "yes" if cause.restarts else "no",
        ]
        for cause in CAUSES
    ]
