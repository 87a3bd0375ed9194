"""The device plugin's real inventory, as the controller reads it."""

import pytest

from confcom.controller.reconcile.facts import Accounting, Offer
from confcom.controller.reconcile.inventory import read_offer
from confcom.device_plugin.discovery.device_nodes import HostDevices
from confcom.device_plugin.discovery.epc_discovery import Discovery, Platform
from confcom.device_plugin.discovery.epc_sources import EpcSection, EpcSource
from confcom.device_plugin.inventory import encode_inventory, encode_waiting
from confcom.device_plugin.kubelet.registration import RegistrationStatus
from confcom.device_plugin.resources import DEFAULT_NAMES, ResourceKind, ResourceSettings, plan_resources
from confcom.kubernetes.epc_accounting import AccountingSetting, AccountingSettings
from confcom.sgx.epc_from_cpuid import MIB

EPC = DEFAULT_NAMES[ResourceKind.EPC]
NONE = HostDevices("", ())


@pytest.mark.parametrize(
    ("setting", "offer"),
    [
        (AccountingSetting.CAPACITY, Offer(Accounting.CAPACITY, EPC, 94)),
        (AccountingSetting.DEVICES, Offer(Accounting.DEVICE, EPC, 94)),
    ],
)
def test_what_a_plugin_says_is_understood(setting: AccountingSetting, offer: Offer) -> None:
    sections = (EpcSection(0, 100 * MIB),)
    discovery = Discovery(Platform.HARDWARE, EpcSource.SYSFS, "because", sections, "/dev/sgx_enclave", None)
    plan = plan_resources(discovery, ResourceSettings(accounting=AccountingSettings(setting=setting)))
    states = [(resource, "x.sock", RegistrationStatus()) for resource in plan.resources]
    assert read_offer(encode_inventory(discovery, plan, states, NONE)) == offer


def test_a_plugin_that_waits_offers_nothing() -> None:
    assert read_offer(encode_waiting("no SGX", NONE)) == Offer(Accounting.NOTHING)
