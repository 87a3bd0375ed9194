"""The plugin's discovery and registrations as versioned JSON for `/inventory`. Pure."""

import json
from collections.abc import Iterable
from dataclasses import asdict

from confcom.device_plugin.discovery.device_nodes import HostDevices, NodeState
from confcom.device_plugin.discovery.epc_discovery import Discovery, EpcSource, Platform
from confcom.device_plugin.kubelet.registration import RegistrationStatus
from confcom.device_plugin.resources import Resource, ResourcePlan

INVENTORY_VERSION = 1
"""Increased when a field is removed or changes its meaning, not when fields are added."""


def encode_inventory(
    discovery: Discovery,
    plan: ResourcePlan,
    states: Iterable[tuple[Resource, str, RegistrationStatus]],  # the text is its socket's name
    devices: HostDevices,
) -> bytes:
    """Return the document, in UTF-8. Its top-level `registered` is true while the kubelet watches every list."""
    resources: list[dict[str, object]] = [
        {
            "name": resource.name,
            "kind": resource.kind,
            "count": resource.count,
            "socket": socket,
            **asdict(status),
        }
        for resource, socket, status in states
    ]
    accounting: dict[str, object] = {
        "kind": plan.accounting.kind,
        "resource": plan.epc_resource,
        "choice": plan.accounting.choice,
        "advertised_mib": plan.advertised_mib,
        "set_aside_mib": plan.set_aside_mib,
        "reserved_mib": plan.reserved_mib,
        "held_back_mib": plan.held_back_mib,
        "kept_mib": plan.kept_mib,
        "kubelet_stall_seconds": plan.stall_seconds,
        "reason": plan.reason,
    }
    return _encode(discovery, accounting, resources, devices)


def encode_waiting(reason: str, devices: HostDevices) -> bytes:
    """Return the document of a plugin that waits for SGX: the same fields, without resources.

    How EPC will be counted is not decided yet, so what decides is null.
    """
    amounts = ("advertised_mib", "set_aside_mib", "reserved_mib", "held_back_mib", "kept_mib", "kubelet_stall_seconds")
    accounting: dict[str, object] = {"kind": None, "resource": None, "choice": None, **dict.fromkeys(amounts, 0)}
    accounting["reason"] = reason
    nothing = Discovery(Platform.HARDWARE, EpcSource.NONE, reason, (), "", None)
    return _encode(nothing, accounting, [], devices)


def _encode(
    discovery: Discovery,
    accounting: dict[str, object],
    resources: list[dict[str, object]],
    devices: HostDevices,
) -> bytes:
    document = {
        "version": INVENTORY_VERSION,
        "platform": discovery.platform,
        "registered": bool(resources) and all(resource["registered"] for resource in resources),
        "epc": {
            "source": discovery.source,
            "reason": discovery.reason,
            "bytes": discovery.epc_bytes,
            "mib": discovery.epc_mib,
            "numa_nodes": [{"node": section.numa_node, "bytes": section.size} for section in discovery.sections],
        },
        "accounting": accounting,
        "devices": {
            "enclave": discovery.enclave_node or None,
            "provision": discovery.provision_node,
            "driver": devices.driver,
            "nodes": [_node(node, healthy=devices.healthy(node.device)) for node in devices.nodes],
        },
        "resources": resources,
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _node(node: NodeState, *, healthy: bool) -> dict[str, object]:
    access = (
        {}
        if node.status is None
        else {"mode": f"{node.status.mode:04o}", "uid": node.status.uid, "gid": node.status.gid}
    )
    problems = [{"code": one.code, "problem": one.what, "remedy": one.remedy} for one in node.problems]
    return {"device": node.device, "path": node.path, "healthy": healthy, **access, "problems": problems}
