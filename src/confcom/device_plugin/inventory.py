"""The plugin's `/inventory` from its discovery, its plan and its registrations. Pure."""

from collections.abc import Iterable
from dataclasses import asdict

from confcom.device_plugin.discovery.device_nodes import HostDevices, NodeState
from confcom.device_plugin.discovery.epc_discovery import Discovery, EpcSource, Platform
from confcom.device_plugin.kubelet.registration import RegistrationStatus
from confcom.device_plugin.resources import Resource, ResourcePlan
from confcom.kubernetes.inventory import EpcOffer, FoundEpc, Inventory


def inventory_of(
    discovery: Discovery,
    plan: ResourcePlan,
    states: Iterable[tuple[Resource, str, RegistrationStatus]],  # the text is its socket's name
    devices: HostDevices,
) -> Inventory:
    resources = tuple(
        {"name": one.name, "kind": one.kind, "count": one.count, "socket": socket, **asdict(status)}
        for one, socket, status in states
    )
    offer = EpcOffer(
        plan.accounting.kind,
        plan.epc_resource,
        plan.accounting.choice,
        plan.advertised_mib,
        plan.set_aside_mib,
        plan.reserved_mib,
        plan.held_back_mib,
        plan.kept_mib,
        plan.stall_seconds,
        plan.reason,
    )
    return _inventory(discovery, offer, devices, resources)


def waiting_inventory(reason: str, devices: HostDevices) -> Inventory:
    """Return the inventory of a plugin that waits for SGX: the same fields, without resources."""
    nothing = Discovery(Platform.HARDWARE, EpcSource.NONE, reason, (), "", None)
    return _inventory(nothing, EpcOffer(None, None, None, reason=reason), devices, ())


def _inventory(
    discovery: Discovery, offer: EpcOffer, devices: HostDevices, resources: tuple[dict[str, object], ...]
) -> Inventory:
    numa_nodes = tuple({"node": section.numa_node, "bytes": section.size} for section in discovery.sections)
    return Inventory(
        platform=discovery.platform,
        registered=bool(resources) and all(resource["registered"] for resource in resources),
        epc=FoundEpc(discovery.source, discovery.reason, discovery.epc_bytes, discovery.epc_mib, numa_nodes),
        accounting=offer,
        devices={
            "enclave": discovery.enclave_node or None,
            "provision": discovery.provision_node,
            "driver": devices.driver,
            "nodes": [_node(node, healthy=devices.healthy(node.device)) for node in devices.nodes],
        },
        resources=resources,
    )


def _node(node: NodeState, *, healthy: bool) -> dict[str, object]:
    access = (
        {}
        if node.status is None
        else {"mode": f"{node.status.mode:04o}", "uid": node.status.uid, "gid": node.status.gid}
    )
    problems = [{"code": one.code, "problem": one.what, "remedy": one.remedy} for one in node.problems]
    return {"device": node.device, "path": node.path, "healthy": healthy, **access, "problems": problems}
