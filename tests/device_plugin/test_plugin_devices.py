import signal

import pytest

from confcom.kubernetes.names import REAL
from testkit.hosts.tree import MIB, HostTree

ENCLAVE, EPC, HELPER, PROVISION = REAL.enclave, REAL.epc, REAL.helper, REAL.provision

ALL = (EPC, ENCLAVE, PROVISION, HELPER)

pytestmark = [pytest.mark.timeout(240)]


@pytest.fixture
def node(short_dir):
    return HostTree(short_dir / "host")


@pytest.fixture
def start(start_plugin, node):
    node.root.mkdir(exist_ok=True)
    return lambda *arguments: start_plugin("--host-root", str(node.root), *arguments, simulated=False)


async def registered(plugin, kubelet, registrations=1):
    """Wait until the kubelet has all device lists, and the plugin has seen the kubelet request each list."""
    await kubelet.until_list(*ALL, registrations=registrations)
    await plugin.until_registered(registrations)


@pytest.fixture
async def plugin(kubelet, start, node):
    await kubelet.start()
    node.load()
    plugin = await start()
    await registered(plugin, kubelet)
    return plugin


async def waits_for_driver(plugin):
    await plugin.until_inventory(lambda found: found.get("devices", {}).get("nodes"))
    assert [line["code"] for line in await plugin.logged(event="no-sgx")] == ["epc-without-driver"]
    assert await probes(plugin) == [200, 503]


async def probes(plugin):
    return [(await plugin.get(path))[0] for path in ("/livez", "/readyz")]


async def health(plugin):
    samples = await plugin.metrics("confcom_device_plugin_device_healthy")
    return {sample.labels["device"]: sample.value for sample in samples}


async def test_a_driver_loaded_late_leads_to_one_registration(kubelet, start, node):
    await kubelet.start()
    node.set_epc(24 * MIB, 4 * MIB + 4096)
    plugin = await start()
    await waits_for_driver(plugin)
    inventory = await plugin.inventory()
    assert (inventory["registered"], inventory["resources"], inventory["epc"]["source"]) == (False, [], "none")
    assert await health(plugin) == {"enclave": 0}
    assert kubelet.requests == []
    node.load()
    await registered(plugin, kubelet)
    assert len(kubelet.lists[EPC]) == 22
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 1, 1]
    assert await probes(plugin) == [200, 200]
    inventory = await plugin.inventory()
    assert {resource["cause"] for resource in inventory["resources"]} == {"start"}
    assert (inventory["platform"], inventory["epc"]["mib"]) == ("hardware", 28)
    (answer,) = await kubelet.ask(EPC, kubelet.lists[EPC][:2])
    assert {device.host_path for device in answer.devices} == {"/dev/sgx_enclave"}


async def test_a_node_without_a_driver_is_waited_on_until_sigterm(kubelet, start, directory):
    plugin = await start()
    await waits_for_driver(plugin)
    assert await plugin.end(signal.SIGTERM) == 0
    assert list(directory.iterdir()) == []


async def test_a_device_lost_and_back_is_one_registration_more(kubelet, plugin, node):
    """First the provision device is lost, which affects only its resource. Then the driver is lost."""
    (node.root / "dev/sgx_provision").unlink()
    await kubelet.until(lambda: not kubelet.lists[PROVISION])
    await plugin.until(lambda all_: [one["code"] for one in all_] == ["", "", "device-removed", ""])
    assert await probes(plugin) == [200, 503]
    node.make("sgx_provision", 0o660)
    await kubelet.until_list(PROVISION, registrations=2)
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 2, 1]
    identifiers = kubelet.lists[EPC]
    node.unload()
    await kubelet.until(lambda: not any(kubelet.lists[name] for name in ALL))
    await plugin.until_code("driver-unloaded")
    assert await probes(plugin) == [200, 503]
    assert not (await plugin.inventory())["registered"]
    assert await health(plugin) == {"enclave": 0, "provision": 0}
    node.set_epc(56 * MIB)
    node.load()
    await registered(plugin, kubelet, registrations=2)
    assert kubelet.lists[EPC] == identifiers, "decided at start"
    assert len(await plugin.logged(3, event="device-back")) == 3
    await kubelet.until_list(PROVISION, registrations=3)
    assert [len(kubelet.registrations(name)) for name in ALL] == [2, 2, 3, 2]
    assert {resource["cause"] for resource in (await plugin.inventory())["resources"]} == {"device_back"}
    assert kubelet.failed_dial_backs == 0
    assert await probes(plugin) == [200, 200]
