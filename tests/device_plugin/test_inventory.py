import json

from confcom.device_plugin.discovery import Discovery, EpcSection, EpcSource, Platform
from confcom.device_plugin.inventory import ResourceState, encode_inventory
from confcom.device_plugin.registration import RegistrationCause, RegistrationStatus
from confcom.device_plugin.resources import plan_resources
from confcom.sgx.epc import MIB

DISCOVERY = Discovery(
    Platform.HARDWARE,
    EpcSource.SYSFS,
    "because",
    (EpcSection(0, 2000 * MIB), EpcSection(1, 106 * MIB + 1)),
    "/dev/sgx_enclave",
    None,
)


def inventory(*registered):
    plan = plan_resources(DISCOVERY)
    states = [
        ResourceState(resource, "x.sock", RegistrationStatus(up, 3, RegistrationCause.STREAM_LOST, ""))
        for resource, up in zip(plan.resources, registered, strict=True)
    ]
    return json.loads(encode_inventory(DISCOVERY, plan, states))


def test_the_whole_document():
    assert inventory(True, True, True) == {
        "version": 1,
        "platform": "hardware",
        "registered": True,
        "epc": {
            "source": "sysfs",
            "reason": "because",
            "bytes": 2106 * MIB + 1,
            "mib": 2106,
            "numa_nodes": [{"node": 0, "bytes": 2000 * MIB}, {"node": 1, "bytes": 106 * MIB + 1}],
        },
        "accounting": {
            "kind": "device",
            "advertised_mib": 2048,
            "set_aside_mib": 6,
            "reserved_mib": 0,
            "held_back_mib": 52,
            "kubelet_stall_seconds": 0.5,
            "reason": "2048 of 2106 MiB are advertised, a device per MiB; 6 are set aside for 2 quote helpers; "
            "52 are held back: at most 2048 devices are advertised",
        },
        "devices": {"enclave": "/dev/sgx_enclave", "provision": None},
        "resources": [
            {
                "name": "kubernetes.azure.com/sgx_epc_mem_in_MiB",
                "kind": "epc",
                "count": 2048,
                "socket": "x.sock",
                "registered": True,
                "registrations": 3,
                "cause": "stream_lost",
                "problem": "",
            },
            {
                "name": "sgx.intel.com/enclave",
                "kind": "enclave",
                "count": 1024,
                "socket": "x.sock",
                "registered": True,
                "registrations": 3,
                "cause": "stream_lost",
                "problem": "",
            },
            {
                "name": "confcom.internal/quote_helper_epc_mem_in_MiB",
                "kind": "helper",
                "count": 6,
                "socket": "x.sock",
                "registered": True,
                "registrations": 3,
                "cause": "stream_lost",
                "problem": "",
            },
        ],
    }


def test_registered_means_every_resource():
    assert inventory(True, False, True)["registered"] is False
