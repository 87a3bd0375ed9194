import json

import pytest

from confcom.controller.plugins import LARGEST_MIB, read_offer
from confcom.controller.reconcile.decision import Accounting, Offer
from confcom.device_plugin.discovery.device_nodes import HostDevices
from confcom.device_plugin.discovery.epc_discovery import Discovery, EpcSection, EpcSource, Platform
from confcom.device_plugin.inventory import encode_inventory, encode_waiting
from confcom.device_plugin.kubelet.registration import RegistrationStatus
from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind, ResourceSettings, plan_resources
from confcom.errors import MalformedError
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings
from confcom.sgx.epc_from_cpuid import MIB
from testkit.raised import raises


def document(**accounting):
    fields = {"kind": "capacity", "resource": "example.com/epc", "advertised_mib": 64} | accounting
    return json.dumps({"version": 1, "accounting": fields, "resources": [{"name": "x"}]}).encode()


def test_an_offer_is_read():
    assert read_offer(document()) == Offer(Accounting.CAPACITY, "example.com/epc", 64)
    assert read_offer(document(kind="device")) == Offer(Accounting.DEVICE, "example.com/epc", 64)
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
        (AccountingSetting.CAPACITY, Accounting.CAPACITY),
        (AccountingSetting.DEVICES, Accounting.DEVICE),
    ):
        plan = plan_resources(discovery, ResourceSettings(accounting=AccountingSettings(setting=setting)))
        states = [(resource, "x.sock", RegistrationStatus()) for resource in plan.resources]
        assert read_offer(encode_inventory(discovery, plan, states, NONE)) == Offer(kind, EPC, 94)
    assert read_offer(encode_waiting("no SGX", NONE)) == Offer(Accounting.NOTHING)
