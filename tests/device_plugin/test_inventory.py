import dataclasses
import json
from pathlib import Path

from prometheus_client import CollectorRegistry

from confcom.device_plugin.discovery.device_nodes import Device, HostDevices, NodeState, Problem
from confcom.device_plugin.discovery.epc_discovery import Discovery, EpcSection, EpcSource, Platform
from confcom.device_plugin.discovery.host import FileStatus
from confcom.device_plugin.inventory import inventory_of, waiting_inventory
from confcom.device_plugin.kubelet.registration import RegistrationCause, RegistrationStatus
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.resources import ResourceSettings, plan_resources
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings
from confcom.sgx.epc_from_cpuid import MIB

DISCOVERY = Discovery(
    Platform.HARDWARE,
    EpcSource.SYSFS,
    "because",
    (EpcSection(0, 2000 * MIB), EpcSection(1, 106 * MIB + 1)),
    "/dev/sgx_enclave",
    None,
)
DEVICES = HostDevices(
    "/sys/class/misc/sgx_enclave",
    (
        NodeState(Device.ENCLAVE, "/dev/sgx_enclave", FileStatus(True, 0o600, 0, 7), (Problem("p", "do", "c"),)),
        NodeState(Device.PROVISION, None),
    ),
)


def inventory(*registered):
    plan = plan_resources(DISCOVERY)
    states = [
        (resource, "x.sock", RegistrationStatus(up, 3, RegistrationCause.STREAM_LOST, "lost", "stream-lost"))
        for resource, up in zip(plan.resources, registered, strict=True)
    ]
    return json.loads(inventory_of(DISCOVERY, plan, states, DEVICES).to_json())


def test_the_whole_document():
    assert inventory(True, False, True)["registered"] is False
    golden = json.loads(Path(__file__).with_name("inventory.json").read_text())
    golden["accounting"]["reason"] = plan_resources(DISCOVERY).reason
    assert inventory(True, True, True) == golden


def test_a_plugin_that_waits_offers_nothing_and_says_why():
    document = json.loads(waiting_inventory("no driver", DEVICES).to_json())
    assert document.keys() == inventory(True, True, True).keys()
    assert (document["registered"], document["resources"]) == (False, [])
    assert document["epc"] == {"source": "none", "reason": "no driver", "bytes": 0, "mib": 0, "numa_nodes": []}
    accounting = document["accounting"]
    assert accounting.keys() == inventory(True, True, True)["accounting"].keys()
    assert (accounting["reason"], accounting["kind"], accounting["choice"]) == ("no driver", None, None)
    assert {value for name, value in accounting.items() if name.endswith(("_mib", "_seconds"))} == {0}
    assert document["devices"]["enclave"] is None
    assert document["devices"]["nodes"][0]["path"] == "/dev/sgx_enclave"


def test_epc_that_is_counted_as_capacity():
    settings = ResourceSettings(accounting=AccountingSettings(setting=AccountingSetting.CAPACITY))
    plan = plan_resources(DISCOVERY, settings)
    accounting = json.loads(inventory_of(DISCOVERY, plan, [], DEVICES).to_json())["accounting"]
    assert (accounting["kind"], accounting["choice"], accounting["advertised_mib"]) == ("capacity", "set", 2100)
    assert accounting["resource"] == "kubernetes.azure.com/sgx_epc_mem_in_MiB"
    registry = CollectorRegistry()
    PluginMetrics(registry).record_discovery(DISCOVERY, plan)
    labels = {"kind": "capacity", "choice": "set"}
    assert registry.get_sample_value("confcom_sgx_epc_accounting_info", labels) == 1
    assert registry.get_sample_value("confcom_sgx_epc_held_back_bytes") == 0
    assert registry.get_sample_value("confcom_sgx_platform_info", {"platform": DISCOVERY.platform}) == 1
    plan = plan_resources(DISCOVERY, ResourceSettings(reserve_mib=50))
    PluginMetrics(registry := CollectorRegistry()).record_discovery(DISCOVERY, plan)
    mib = {
        part: registry.get_sample_value(f"confcom_sgx_epc_{part}_bytes") / MIB
        for part in ("advertised", "set_aside", "reserved", "held_back")
    }
    assert mib == {"advertised": 2048, "set_aside": 6, "reserved": 50, "held_back": 2}


def test_epc_whose_numa_node_nobody_tells():
    sections = (EpcSection(None, 100 * MIB), EpcSection(None, 28 * MIB))
    found = dataclasses.replace(DISCOVERY, source=EpcSource.CPUID, sections=sections)
    epc = json.loads(inventory_of(found, plan_resources(found), [], DEVICES).to_json())["epc"]
    assert epc["numa_nodes"] == [{"node": None, "bytes": 100 * MIB}, {"node": None, "bytes": 28 * MIB}]
    registry = CollectorRegistry()
    PluginMetrics(registry).record_discovery(found, plan_resources(found))
    assert registry.get_sample_value("confcom_sgx_epc_bytes", {"numa_node": "unknown"}) == 128 * MIB
