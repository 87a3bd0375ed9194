import asyncio
import json
from contextlib import nullcontext
from dataclasses import replace
from http import HTTPStatus

import pytest
from prometheus_client import CollectorRegistry

from confcom.device_plugin import main
from confcom.device_plugin.device_nodes import Device, Problem
from confcom.device_plugin.epc import discover
from confcom.device_plugin.host import HostFiles
from confcom.device_plugin.main import compose, probe_routes
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.settings import parse_settings
from confcom.device_plugin.socket_names import NAME_BYTES
from confcom.errors import UnavailableError
from confcom.kubernetes.epc_accounting import EpcInUse
from testkit.expected_errors import raises

NAMES = [
    "sgx-epc-8dde3ee3i01000.sock",
    "sgx-enc-11223ee3i01000.sock",
    "sgx-pro-52e73ee3i01000.sock",
    "sgx-hel-797a3ee3i01000.sock",
]
"""Names written out in full, because instances of different versions recognise each other by names."""


def composed(directory, registry):
    arguments = ["--simulated", "--device-plugin-dir", str(directory), "--host-root", str(directory)]
    return compose(
        parse_settings(arguments, prog="plugin", environ={}),
        discover(HostFiles(directory), simulated_epc_mib=168),
        metrics=PluginMetrics(registry),
        instance="i01",
        jitter=lambda: 0.0,
        clock=lambda: 0.0,
    )


async def test_ready_means_that_every_resource_was_taken_and_no_device_is_lost(directory):
    registry = CollectorRegistry()
    plugin = composed(directory, registry)
    routes = probe_routes(lambda: plugin, registry, lambda: 0.0)
    assert [registrar.new_endpoint().path.name for registrar in plugin.registrars] == NAMES
    assert {len(name) for name in NAMES} == {NAME_BYTES}
    for registrar in plugin.registrars:
        untaken = routes["/readyz"]()
        assert untaken.status is HTTPStatus.SERVICE_UNAVAILABLE
        assert registrar.resource_name.encode() in untaken.body
        assert registrar.status.code == "not-tried"
        registrar.status.registrations = 1
    assert routes["/readyz"]().status is HTTPStatus.OK
    plugin.watch.availability[Device.PROVISION].mark_unavailable(Problem("it was taken", "give it back", code="taken"))
    lost = routes["/readyz"]()
    assert lost.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert b"sgx.intel.com/provision: it was taken" in lost.body
    assert [one["socket"] for one in json.loads(routes["/inventory"]().body)["resources"]] == [""] * 4


@pytest.mark.parametrize(("held", "ends"), [(162, False), (163, True)])
async def test_devices_that_an_older_instance_gave_meanwhile_end_it(directory, monkeypatch, held, ends):
    monkeypatch.setattr(main, "CONFIRM_SECONDS", 0.0)
    in_use = EpcInUse(devices=200, devices_held=True, held_count=held)
    plugin = replace(composed(directory, CollectorRegistry()), find_in_use=lambda: in_use)
    plugin.registrars[0].status.registrations = 1
    stop = asyncio.Event()
    stop.set()
    with raises("devices-allocated-meanwhile", UnavailableError) if ends else nullcontext():
        await plugin._confirm(stop)
