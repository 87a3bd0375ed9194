import json

import pytest

from confcom.controller.plugins import read_offer
from confcom.controller.reconcile.decision import Offer
from confcom.device_plugin.discovery.device_nodes import HostDevices
from confcom.device_plugin.discovery.epc_discovery import Discovery, EpcSection, EpcSource, Platform
from confcom.device_plugin.inventory import inventory_of, waiting_inventory
from confcom.device_plugin.kubelet.registration import RegistrationStatus
from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind, ResourceSettings, plan_resources
from confcom.errors import MalformedError
from confcom.kubernetes.epc_accounting import AccountingKind, AccountingSetting, AccountingSettings
from confcom.kubernetes.inventory import LARGEST_MIB, Inventory
from confcom.sgx.epc_from_cpuid import MIB
from testkit.raised import raises


def document(**accounting):
    fields = {"kind": "capacity", "resource": "example.com/epc", "advertised_mib": 64} | accounting
    return json.dumps({"version": 1, "accounting": fields, "resources": [{"name": "x"}]}).encode()


def test_an_offer_is_read():
    assert read_offer(document()) == Offer(AccountingKind.CAPACITY, "example.com/epc", 64)
    assert read_offer(document(kind="device")) == Offer(AccountingKind.DEVICE, "example.com/epc", 64)
    assert read_offer(document(advertised_mib=LARGEST_MIB)).mib == LARGEST_MIB


@pytest.mark.parametrize(
    "unusable",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        b'{"version": 2}',
        document(kind="tokens"),
        document(kind=["capacity"]),
        document(kind="device", resource=None),
        document(advertised_mib=-1),
        document(advertised_mib=LARGEST_MIB + 1),
        document(advertised_mib=True),
        document(advertised_mib="64"),
    ],
)
def test_what_is_no_inventory_is_refused(unusable):
    with raises("inventory-malformed", MalformedError):
        read_offer(unusable)


EPC = DEFAULT_NAMES[ResourceKind.EPC]
NONE = HostDevices("", ())


def test_what_a_real_plugin_says_is_understood():
    sections = (EpcSection(0, 100 * MIB),)
    discovery = Discovery(Platform.HARDWARE, EpcSource.SYSFS, "because", sections, "/dev/sgx_enclave", None)
    for setting, kind in (
        (AccountingSetting.CAPACITY, AccountingKind.CAPACITY),
        (AccountingSetting.DEVICES, AccountingKind.DEVICE),
    ):
        plan = plan_resources(discovery, ResourceSettings(accounting=AccountingSettings(setting=setting)))
        states = [(resource, "x.sock", RegistrationStatus()) for resource in plan.resources]
        inventory = inventory_of(discovery, plan, states, NONE)
        assert read_offer(inventory.to_json()) == Offer(kind, EPC, 94)
        assert Inventory.from_json(inventory.to_json()).to_json() == inventory.to_json()
    assert read_offer(waiting_inventory("no SGX", NONE).to_json()) == Offer(None)
