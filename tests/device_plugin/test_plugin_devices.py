"""The plugin as a process on a node whose driver and devices come, go and change; registrations are counted."""

import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from confcom.device_plugin.resources import ENCLAVE_RESOURCE as ENCLAVE
from confcom.device_plugin.resources import EPC_RESOURCE as EPC
from confcom.device_plugin.resources import HELPER_RESOURCE as HELPER
from confcom.device_plugin.resources import PROVISION_RESOURCE as PROVISION
from testkit.hosts.tree import MIB, HostTree

ALL = (EPC, ENCLAVE, PROVISION, HELPER)
LATE = 60
"""Seconds after which something will not happen any more, on a machine that is far too busy."""

pytestmark = [pytest.mark.timeout(240)]


@pytest.fixture
def node(directory):
    return HostTree(directory / "host")


@pytest.fixture
def start(start_plugin, node):
    node.root.mkdir(exist_ok=True)
    return lambda *arguments: start_plugin("--host-root", str(node.root), *arguments, simulated=False)


async def registered(plugin, kubelet, registrations=1):
    """Until both know: the kubelet has every list, and the plugin has seen that it was asked for."""
    await kubelet.until_list(*ALL, registrations=registrations)
    await plugin.until_log("registered", times=registrations * len(ALL))


async def not_ready(plugin):
    status, body = await plugin.get("/readyz")
    assert status == 503
    assert (await plugin.get("/livez"))[0] == 200
    return body.decode()


async def health(plugin):
    page = await plugin.metrics()
    families = {family.name: family for family in text_string_to_metric_families(page)}
    samples = families["confcom_device_plugin_device_healthy"].samples
    return {sample.labels["device"]: sample.value for sample in samples}


async def test_a_driver_that_is_loaded_late_leads_to_one_registration(kubelet, start, node):
    await kubelet.start()
    plugin = await start()
    await plugin.until_log("no SGX to offer yet")
    assert "no SGX driver" in await not_ready(plugin)
    inventory = await plugin.inventory()
    assert (inventory["registered"], inventory["resources"], inventory["epc"]["source"]) == (False, [], "none")
    assert await health(plugin) == {"enclave": 0}
    assert kubelet.requests == []
    node.load()
    await registered(plugin, kubelet)
    assert len(kubelet.lists[EPC]) == 22
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 1, 1]
    assert await plugin.get("/readyz") == (200, b"ok\n")
    assert {resource["cause"] for resource in (await plugin.inventory())["resources"]} == {"start"}
    (answer,) = await kubelet.allocate(EPC, kubelet.lists[EPC][:2])
    assert answer.envs["CONFCOM_SGX_PLATFORM"] == "hardware"


async def test_a_node_that_never_gets_a_driver_is_waited_on_until_sigterm(kubelet, start, directory):
    plugin = await start()
    await plugin.until_log("no SGX to offer yet")
    assert "no SGX driver" in await not_ready(plugin)
    assert await plugin.end() == 0
    assert [path.name for path in directory.iterdir() if path.name.startswith("sgx-")] == []


async def test_a_device_that_is_lost_and_comes_back_leads_to_one_registration_more(kubelet, start, node):
    await kubelet.start()
    node.load()
    plugin = await start()
    await registered(plugin, kubelet)
    identifiers = kubelet.lists[EPC]
    node.unload()
    await kubelet.until(lambda: not any(kubelet.lists[name] for name in ALL))
    await plugin.until_log("not offered any more", times=len(ALL))
    assert "driver of /dev/sgx_enclave is not loaded any more" in await not_ready(plugin)
    inventory = await plugin.inventory()
    assert not inventory["registered"]
    assert all("is not loaded any more" in resource["problem"] for resource in inventory["resources"])
    assert await health(plugin) == {"enclave": 0, "provision": 0}
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 1, 1]
    node.set_epc(56 * MIB)
    node.load()
    await registered(plugin, kubelet, registrations=2)
    assert kubelet.lists[EPC] == identifiers, "decided at start"
    assert len(plugin.messages("SGX device back")) == 2
    different = "the EPC has another size than at start; what is offered stays until the plugin restarts"
    (said,) = plugin.messages(different)
    assert (said["bytes_at_start"], said["bytes_now"]) == (28 * MIB, 56 * MIB)
    assert [len(kubelet.registrations(name)) for name in ALL] == [2, 2, 2, 2]
    assert {resource["cause"] for resource in (await plugin.inventory())["resources"]} == {"device_back"}
    assert kubelet.failed_dial_backs == 0
    assert await plugin.get("/readyz") == (200, b"ok\n")


async def test_a_kubelet_that_restarts_while_the_device_is_lost_is_not_registered_with(kubelet, start, node):
    await kubelet.start()
    node.load()
    plugin = await start()
    await registered(plugin, kubelet)
    node.unload()
    await plugin.until_log("not offered any more", times=len(ALL))
    await kubelet.stop()
    await kubelet.start()
    requests = len(kubelet.requests)
    assert "is not loaded any more" in await not_ready(plugin)
    node.load()
    await kubelet.until_list(*ALL, registrations=2)
    assert len(kubelet.requests) == requests + len(ALL), "none of them before the device was back"
    assert kubelet.failed_dial_backs == 0


async def test_the_provision_device_alone_takes_only_its_own_resource(kubelet, start, node):
    await kubelet.start()
    node.load()
    plugin = await start()
    await registered(plugin, kubelet)
    (node.root / "dev/sgx_provision").unlink()
    await kubelet.until(lambda: not kubelet.lists[PROVISION])
    await plugin.until_log("not offered any more")
    assert "sgx.intel.com/provision: /dev/sgx_provision is no character device" in await not_ready(plugin)
    assert kubelet.lists[EPC]
    node.make("sgx_provision", 0o660)
    await kubelet.until_list(PROVISION, registrations=2)
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 2, 1]


async def test_changed_permissions_are_shown_with_the_remedy_and_take_nothing_away(kubelet, start, node):
    await kubelet.start()
    node.load()
    if (node.root / "dev/sgx_enclave").is_symlink():
        pytest.skip("only who may make a device node (CAP_MKNOD) can try one whose permissions change")
    plugin = await start()
    await registered(plugin, kubelet)
    assert await health(plugin) == {"enclave": 1, "provision": 1}
    (node.root / "dev/sgx_enclave").chmod(0o600)
    await plugin.until_log("an SGX device cannot be used as it should be")
    (said,) = plugin.messages("an SGX device cannot be used as it should be")
    assert "mode 0600: only root can open it" in said["problem"]
    assert 'MODE="0666"' in said["remedy"]
    assert await health(plugin) == {"enclave": 0, "provision": 1}
    enclave = (await plugin.inventory())["devices"]["nodes"][0]
    assert (enclave["mode"], enclave["healthy"]) == ("0600", False)
    assert enclave["problems"][0]["remedy"] == said["remedy"]
    assert await plugin.get("/readyz") == (200, b"ok\n")
    (node.root / "dev/sgx_enclave").chmod(0o666)
    await plugin.until_log("an SGX device can be used again")
    assert await health(plugin) == {"enclave": 1, "provision": 1}
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 1, 1]


async def test_noexec_is_read_from_the_hosts_mounts(kubelet, start, node):
    await kubelet.start()
    node.load()
    (node.root / "proc/1").mkdir(parents=True)
    (node.root / "proc/1/mountinfo").write_text("24 21 0:6 / /dev rw,noexec shared:2 - devtmpfs devtmpfs rw\n")
    plugin = await start()
    await plugin.until_log("an SGX device cannot be used as it should be")
    assert "noexec" in plugin.messages("an SGX device cannot be used as it should be")[0]["problem"]
    await registered(plugin, kubelet)


async def test_a_driver_beside_a_simulated_plugin_ends_its_streams_for_good(kubelet, start_plugin, node):
    await kubelet.start()
    plugin = await start_plugin("--host-root", str(node.root))
    await registered(plugin, kubelet)
    node.load()
    await kubelet.until(lambda: not any(kubelet.lists[name] for name in ALL))
    await plugin.until_log("not offered any more", times=len(ALL))
    assert "take the simulation label off this node" in await not_ready(plugin)
    (loud,) = plugin.messages("a simulated plugin on SGX hardware offers nothing any more")
    assert loud["level"] == "error"
    assert [len(kubelet.registrations(name)) for name in ALL] == [1, 1, 1, 1]


def test_wrong_settings_end_it_although_there_is_no_driver_yet(directory):
    command = [sys.executable, "-m", "confcom.device_plugin", "--host-root", str(directory), "--device-plugin-dir"]
    for wrong, code in (("/nonexistent/device-plugins", 6), ("/tmp/" + "x" * 90, 2)):
        ended = subprocess.run([*command, wrong], capture_output=True, check=False, timeout=LATE)
        assert ended.returncode == code
