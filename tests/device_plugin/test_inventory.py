import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from confcom.daemon.readiness_log import NotReady
from confcom.device_plugin.device_nodes import Device, HostDevices, NodeState, Problem
from confcom.device_plugin.device_watch import SgxSearch
from confcom.device_plugin.epc import Discovery, EpcSource, Platform, found_epc
from confcom.device_plugin.main import DevicePlugin
from confcom.device_plugin.metrics import PluginMetrics
from confcom.device_plugin.registration import RegistrationCause, RegistrationStatus
from confcom.device_plugin.resources import ResourceSettings, plan_resources
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings, EpcInUse
from confcom.kubernetes.inventory import EpcSection, Inventory
from confcom.sgx.epc_from_cpuid import MIB
from testkit.hosts.fake import device

DISCOVERY = Discovery(
    Platform.HARDWARE,
    found_epc(EpcSource.SYSFS, "because", (EpcSection(0, 2000 * MIB), EpcSection(1, 106 * MIB + 1))),
    "/dev/sgx_enclave",
    None,
)
DEVICES = HostDevices(
    "/sys/class/misc/sgx_enclave",
    (
        NodeState(Device.ENCLAVE, "/dev/sgx_enclave", device(0o600, gid=7), (Problem("p", "do", "c"),)),
        NodeState(Device.PROVISION, None),
    ),
)


def inventory_of(discovery, plan, registered=(True, True, True)):
    statuses = [RegistrationStatus(up, 3, RegistrationCause.STREAM_LOST, "lost", "stream-lost") for up in registered]
    registrars = tuple(SimpleNamespace(socket_path=Path("x.sock"), status=one) for one in statuses)
    plugin = DevicePlugin(discovery, plan, registrars[: len(plan.resources)], SimpleNamespace(devices=DEVICES), None)
    found = plugin.inventory()
    assert Inventory.from_json(found.to_json()).to_json() == found.to_json()
    return json.loads(found.to_json())


def usual_plan(found):
    return plan_resources(found, ResourceSettings(), EpcInUse())


def inventory(*registered):
    return inventory_of(DISCOVERY, usual_plan(DISCOVERY), registered)


def test_the_whole_document():
    assert inventory(True, False, True)["registered"] is False
    golden = json.loads(Path(__file__).with_name("inventory.json").read_text())
    golden["accounting"]["reason"] = usual_plan(DISCOVERY).offer.reason
    assert inventory(True, True, True) == golden


def test_a_plugin_that_waits_offers_nothing_and_says_why():
    document = json.loads(
        SgxSearch(None, None, None, problem=NotReady("no driver", code="no-sgx-driver"), devices=DEVICES)
        .inventory()
        .to_json()
    )
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
    plan = plan_resources(DISCOVERY, settings, EpcInUse())
    accounting = inventory_of(DISCOVERY, plan)["accounting"]
    assert (accounting["kind"], accounting["choice"], accounting["advertised_mib"]) == ("capacity", "set", 2100)
    assert accounting["resource"] == "kubernetes.azure.com/sgx_epc_mem_in_MiB"
    registry = CollectorRegistry()
    PluginMetrics(registry).record_discovery(DISCOVERY, plan.offer)
    labels = {"kind": "capacity", "choice": "set"}
    assert registry.get_sample_value("confcom_sgx_epc_accounting_info", labels) == 1
    assert registry.get_sample_value("confcom_sgx_epc_held_back_bytes") == 0
    assert registry.get_sample_value("confcom_sgx_platform_info", {"platform": DISCOVERY.platform}) == 1
    plan = plan_resources(DISCOVERY, ResourceSettings(reserve_mib=50), EpcInUse())
    PluginMetrics(registry := CollectorRegistry()).record_discovery(DISCOVERY, plan.offer)
    mib = {
        part: registry.get_sample_value(f"confcom_sgx_epc_{part}_bytes") / MIB
        for part in ("advertised", "set_aside", "reserved", "held_back")
    }
    assert mib == {"advertised": 2048, "set_aside": 6, "reserved": 50, "held_back": 2}


def test_epc_whose_numa_node_nobody_tells():
    sections = (EpcSection(None, 100 * MIB), EpcSection(None, 28 * MIB))
    found = dataclasses.replace(DISCOVERY, epc=found_epc(EpcSource.CPUID, "", sections))
    epc = inventory_of(found, usual_plan(found))["epc"]
    assert epc["numa_nodes"] == [{"node": None, "bytes": 100 * MIB}, {"node": None, "bytes": 28 * MIB}]
    registry = CollectorRegistry()
    PluginMetrics(registry).record_discovery(found, usual_plan(found).offer)
    assert registry.get_sample_value("confcom_sgx_epc_bytes", {"numa_node": "unknown"}) == 128 * MIB
