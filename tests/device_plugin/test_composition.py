import json
from http import HTTPStatus

from prometheus_client import CollectorRegistry

from confcom.device_plugin.discovery.device_nodes import Device, Problem
from confcom.device_plugin.discovery.epc_discovery import discover
from confcom.device_plugin.discovery.host import HostFiles
from confcom.device_plugin.main import compose, probe_routes
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.settings import parse_settings

NAMES = [
    "sgx-epc-8dde3ee3i01000.sock",
    "sgx-enc-11223ee3i01000.sock",
    "sgx-pro-52e73ee3i01000.sock",
    "sgx-hel-797a3ee3i01000.sock",
]
"""Written out: instances of other versions know each other by them."""


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
