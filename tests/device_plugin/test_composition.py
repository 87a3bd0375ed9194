import json
from http import HTTPStatus

import pytest
from prometheus_client import CollectorRegistry

from confcom.device_plugin.discovery.epc_discovery import discover
from confcom.device_plugin.discovery.host import HostFiles
from confcom.device_plugin.main import compose, probe_routes
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.settings import parse_settings
from confcom.errors import UnavailableError

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


async def test_ready_means_that_every_resource_is_taken(directory):
    registry = CollectorRegistry()
    plugin = composed(directory, registry)
    routes = probe_routes(lambda: plugin, registry, lambda: 0.0)
    before = routes["/readyz"]()
    assert before.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert b"sgx_epc_mem_in_MiB, sgx.intel.com/enclave, sgx.intel.com/provision" in before.body
    await plugin.start()
    assert sorted(path.name for path in directory.iterdir()) == sorted(NAMES)
    assert [resource["socket"] for resource in json.loads(routes["/inventory"]().body)["resources"]] == NAMES
    for registrar in plugin.registrars:
        untaken = routes["/readyz"]()
        assert untaken.status is HTTPStatus.SERVICE_UNAVAILABLE
        assert registrar.resource_name.encode() in untaken.body
        assert registrar.status.code == "not-tried"
        registrar.status.registrations = 1
    assert routes["/readyz"]().status is HTTPStatus.OK
    await plugin.close()
    assert routes["/readyz"]().status is HTTPStatus.SERVICE_UNAVAILABLE
    assert list(directory.iterdir()) == []


async def test_a_start_that_fails_midway_leaves_nothing(directory):
    plugin = composed(directory, CollectorRegistry())
    (directory / NAMES[2]).mkdir()
    with pytest.raises(UnavailableError) as caught:
        await plugin.start()
    assert caught.value.error_code == "socket-path-unusable"
    await plugin.close()
    assert [path.name for path in directory.iterdir()] == [NAMES[2]]
