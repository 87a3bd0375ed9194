import logging

import pytest
from prometheus_client import CollectorRegistry

from confcom.device_plugin.device_nodes import Device
from confcom.device_plugin.device_watch import DEBOUNCE_POLLS, DeviceWatch, SgxSearch
from confcom.device_plugin.epc import discover
from confcom.device_plugin.metrics import PluginMetrics
from confcom.errors import SettingsError
from testkit.hosts.fake import (
    BY_INTELS_RULES,
    DRIVER,
    ENCLAVE,
    MIB,
    PROVISION,
    FakeHost,
    device,
    hardware,
    processor,
    sysfs,
)


class Tried:
    """Runs a watch or a search with log and metrics; during each sleep of a search, the host changes."""

    def __init__(self, caplog):
        caplog.set_level(logging.INFO)
        self.registry = CollectorRegistry()
        self.metrics = PluginMetrics(self.registry)
        self.caplog = caplog

    def events(self):
        records, self.caplog.records[:] = [record.event for record in self.caplog.records], []
        return records

    def healthy(self, device):
        return self.registry.get_sample_value("confcom_device_plugin_device_healthy", {"device": device})

    def watch(self, host, *, simulated_epc_mib=None):
        return DeviceWatch(host, discover(host, simulated_epc_mib=simulated_epc_mib), metrics=self.metrics)

    async def search(self, host, *changes, simulated_epc_mib=None):
        steps = iter(changes)
        self.sleeps = 0

        async def sleep(_seconds):
            self.sleeps += 1
            next(steps, lambda: None)()

        return await SgxSearch(host, simulated_epc_mib=simulated_epc_mib, metrics=self.metrics, sleep=sleep).find()


@pytest.fixture
def tried(caplog):
    return Tried(caplog)


@pytest.fixture
def host():
    return hardware(28 * MIB)


@pytest.fixture
def watch(tried, host):
    """A device watch that has found all devices healthy in ten polls."""
    made = tried.watch(host)
    polls(made, 10)
    assert there(made) == {"enclave", "provision"}
    assert tried.events() == []
    assert (tried.healthy("enclave"), tried.healthy("provision")) == (1, 1)
    return made


def polls(watch, number):
    for _ in range(number):
        watch.poll()


def there(watch):
    return {device.value for device, availability in watch.availability.items() if availability.available.is_set()}


def test_an_unloaded_driver_is_told_once_and_its_return_once(tried, host, watch):
    nodes, host.nodes, host.entries = host.nodes, {}, set()
    polls(watch, 5)
    assert there(watch) == set()
    assert tried.events() == ["device-lost"] * 2
    assert watch.availability[Device.ENCLAVE].problem.code == "driver-unloaded"
    assert tried.healthy("enclave") == 0
    host.nodes, host.entries = nodes, {DRIVER}
    polls(watch, DEBOUNCE_POLLS - 1)
    assert there(watch) == set()
    assert tried.events() == []
    polls(watch, 1)
    assert there(watch) == {"enclave", "provision"}
    assert tried.events() == ["device-back"] * 2
    assert watch.availability[Device.ENCLAVE].problem is None
    assert tried.healthy("enclave") == 1
    for number in range(40):
        host.entries = {DRIVER} if number % DEBOUNCE_POLLS else set()
        watch.poll()
    assert there(watch) == set()
    assert tried.events() == ["device-lost"] * 2, "one that comes and goes is lost once"


def test_one_device_alone_takes_only_its_own_resource(tried, host, watch):
    del host.nodes[PROVISION]
    polls(watch, 2)
    assert there(watch) == {"enclave"}
    assert watch.availability[Device.PROVISION].problem.code == "device-removed"
    assert (tried.healthy("enclave"), tried.healthy("provision")) == (1, 0)
    host.nodes = {"/dev/sgx/enclave": device(), PROVISION: device(0o660, gid=107)}
    polls(watch, 10)
    assert there(watch) == {"provision"}
    assert tried.healthy("enclave") == 0
    assert watch.availability[Device.ENCLAVE].problem.code == "device-moved"


def test_changed_permissions_are_told_once_each_and_take_nothing(tried, host, watch):
    host.nodes[ENCLAVE] = device(0o600)
    polls(watch, 3)
    assert tried.events() == ["device-problem"]
    host.nodes[ENCLAVE] = device(0o660, gid=106)
    polls(watch, 3)
    assert tried.events() == ["device-problem"]
    assert there(watch) == {"enclave", "provision"}
    assert tried.healthy("enclave") == 0
    host.nodes[ENCLAVE] = device()
    polls(watch, 3)
    assert tried.events() == ["device-usable"]
    assert tried.healthy("enclave") == 1


def test_a_provision_device_that_comes_later_is_not_offered(tried):
    host = hardware(28 * MIB, nodes={ENCLAVE: device()})
    watch = tried.watch(host)
    polls(watch, 2)
    assert tried.healthy("provision") is None
    host.nodes = dict(BY_INTELS_RULES)
    polls(watch, 5)
    assert tried.events() == ["device-appeared"]
    assert there(watch) == {"enclave"}


def test_a_driver_beside_a_simulated_plugin_ends_it_for_good(tried):
    host = FakeHost()
    watch = tried.watch(host, simulated_epc_mib=28)
    polls(watch, 3)
    assert there(watch) == {"enclave", "provision"}
    host.nodes = dict(BY_INTELS_RULES)
    polls(watch, 3)
    assert there(watch) == {"enclave", "provision"}, "a device node alone is no driver"
    host.entries = {DRIVER}
    polls(watch, 3)
    host.entries = set()
    polls(watch, 10)
    assert there(watch) == set()
    assert tried.events() == ["simulated-on-hardware"]
    assert watch.availability[Device.ENCLAVE].problem.code == "simulated-on-hardware"


async def test_what_is_there_is_found_at_the_first_look(tried):
    found = await tried.search(hardware(28 * MIB))
    assert (found.epc.mib, tried.sleeps, tried.events()) == (28, 0, [])
    found = await tried.search(FakeHost(), simulated_epc_mib=5)
    assert (found.epc.mib, tried.sleeps, tried.events()) == (5, 0, [])
    with pytest.raises(SettingsError):
        await tried.search(hardware(28 * MIB), simulated_epc_mib=5)


async def test_a_driver_that_is_loaded_late(tried):
    host = FakeHost(leaves=processor(28 * MIB))
    healthy = []

    def load():
        healthy.append(tried.healthy("enclave"))
        host.entries = {DRIVER}

    def make_nodes():
        healthy.append(tried.healthy("enclave"))
        host.nodes = dict(BY_INTELS_RULES)

    found = await tried.search(host, lambda: None, load, make_nodes)
    assert found.epc.mib == 28
    assert found.provision_node == PROVISION
    assert tried.sleeps == 3 + DEBOUNCE_POLLS - 1
    assert healthy == [0, 0]
    codes = [record.code for record in tried.caplog.records]
    assert codes == ["epc-without-driver", "no-enclave-device"], "once for each reason"


async def test_an_enclave_device_waits_for_its_provision_device(tried):
    host = hardware(28 * MIB, nodes={ENCLAVE: device()})
    found = await tried.search(host, lambda: host.nodes.update(BY_INTELS_RULES))
    assert found.provision_node == PROVISION
    host = hardware(28 * MIB, nodes={ENCLAVE: device()})
    found = await tried.search(host)
    assert (found.provision_node, tried.sleeps) == (None, DEBOUNCE_POLLS - 1)


async def test_what_comes_and_goes_is_not_found_until_it_stays(tried):
    host = FakeHost(sysfs(28 * MIB), dict(BY_INTELS_RULES))
    changes = [lambda: host.entries.add(DRIVER), lambda: host.entries.add(DRIVER), host.entries.clear] * 4
    found = await tried.search(host, *changes, lambda: host.entries.add(DRIVER))
    assert (found.epc.mib, tried.sleeps) == (28, 12 + DEBOUNCE_POLLS)
