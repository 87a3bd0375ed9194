"""Metrics of the device plugin; the help texts explain them."""

from collections.abc import Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from confcom.device_plugin.device_nodes import Device, HostDevices
from confcom.device_plugin.epc import Discovery
from confcom.kubernetes.inventory import EpcOffer
from confcom.sgx.epc_from_cpuid import MIB

ALLOCATE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)
"""Bucket limits in s. The goal is 0.5 ms, as the kubelet's sync loop calls Allocate without a deadline."""


class PluginMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        about = "EPC found, by NUMA node; unknown if only CPUID reports it"
        self.epc = gauge("confcom_sgx_epc_bytes", about, ["numa_node"])
        self.advertised = gauge("confcom_sgx_epc_advertised_bytes", "EPC offered, as devices or as node capacity")
        self.held_back = gauge("confcom_sgx_epc_held_back_bytes", "EPC found but not offered, because of the maximum")
        self.set_aside = gauge("confcom_sgx_epc_set_aside_bytes", "EPC set aside for quote helpers")
        self.reserved = gauge("confcom_sgx_epc_reserved_bytes", "EPC kept for enclaves outside of Kubernetes")
        about = "1 for how EPC is counted, device or capacity, and the code of why"
        self.accounting = gauge("confcom_sgx_epc_accounting_info", about, ["kind", "choice"])
        about = "1 for the platform reported to containers: hardware or simulated"
        self.platform = gauge("confcom_sgx_platform_info", about, ["platform"])
        about = "1 while the driver is loaded and the device is usable by its users; absent on a simulated platform"
        self.device_healthy = gauge("confcom_device_plugin_device_healthy", about, ["device"])
        self.list_bytes = gauge("confcom_device_plugin_list_bytes", "Size of the device list", ["resource"])
        about = "1 while the kubelet watches the list"
        self.registered = gauge("confcom_device_plugin_registered", about, ["resource"])
        about = "Registrations accepted; cause: start, stream_lost, socket_lost, sibling_ended or device_back"
        self.registrations = counter("confcom_device_plugin_registrations", about, ["resource", "cause"])
        about = "Attempts to register that failed while a kubelet was listening"
        self.registration_failures = counter("confcom_device_plugin_registration_failures", about, ["resource"])
        self.allocate_seconds = Histogram(
            "confcom_device_plugin_allocate_seconds",
            "Time to answer Allocate",
            ["resource"],
            buckets=ALLOCATE_BUCKETS,
            registry=registry,
        )
        about = "Allocate requests refused"
        self.allocate_failures = counter("confcom_device_plugin_allocate_failures", about, ["resource"])

    def record_discovery(self, discovery: Discovery, offer: EpcOffer) -> None:
        """Set the metrics that never change while the plugin runs. An unknown NUMA node has the label `unknown`."""
        for section in discovery.epc.numa_nodes:
            node = "unknown" if section.node is None else str(section.node)
            self.epc.labels(node).inc(section.bytes)
        self.advertised.set(offer.advertised_mib * MIB)
        self.held_back.set(offer.held_back_mib * MIB)
        self.set_aside.set(offer.set_aside_mib * MIB)
        self.reserved.set(offer.reserved_mib * MIB)
        self.accounting.labels(offer.kind, offer.choice).set(1)
        self.platform.labels(discovery.platform).set(1)

    def record_devices(self, devices: HostDevices, *, offered: Iterable[Device]) -> None:
        """Set the health metric of offered and of present devices; other devices get no value."""
        for node in devices.nodes:
            if node.path is not None or node.device in offered:
                self.device_healthy.labels(node.device).set(devices.healthy(node.device))
