"""Settings of the device plugin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from confcom.daemon.settings import DaemonSettings, SettingsParser, choice, integer_between, parse_path, setting, switch
from confcom.device_plugin.resources import DEFAULT_HELPER_MIB, ResourceKind, ResourceSettings
from confcom.errors import SettingsError
from confcom.kubernetes.epc_accounting import (
    HELPERS,
    LARGEST_EPC_MIB,
    MAX_DEVICES,
    AccountingSetting,
    AccountingSettings,
    ApiVersion,
    CapacitySupport,
    parse_api_version,
)
from confcom.kubernetes.names import AESM_DIRECTORY, REAL, extended_resource

DEFAULT_DEVICE_PLUGIN_DIRECTORY = Path("/var/lib/kubelet/device-plugins")
"""The kubelet always uses this directory, whatever its --root-dir is."""
DEFAULT_SIMULATED_EPC_MIB = 168
"""MiB of EPC of the largest of Azure's DCsv2 sizes, for which counting EPC as devices was designed; retired in 2026."""

DEFAULT_INSTALLATION = "confcom"
"""The default installation. Plugins of one installation replace each other in an update."""

_DESCRIPTION = """\
Offer this node's EPC to the kubelet as kubernetes.azure.com/sgx_epc_mem_in_MiB (one device is one MiB), and the SGX
device nodes as sgx.intel.com/enclave and sgx.intel.com/provision.

Each flag can also be given by the environment variable named beside it; a flag wins."""
_EPILOG = """\
examples:
  confcom device-plugin                                     on a node with SGX
  confcom device-plugin --simulated                         on a node without SGX, 168 MiB of simulated EPC
  confcom device-plugin --simulated --simulated-epc-mib 28  ... of a smaller node
"""


def _resource_name(text: str) -> str:
    if not extended_resource(text):
        raise ValueError(f"the kubelet takes names such as example.com/name, without kubernetes.io/, and not {text!r}")
    return text


def _api_server(text: str) -> ApiVersion | None:
    """Return the API server's version; None for empty text, which the chart gives for an unknown version."""
    return parse_api_version(text) if text else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSettings(DaemonSettings):
    simulated: bool = switch("offer simulated EPC; fails on a node with an SGX driver")
    simulated_epc_mib: int | None = setting(
        None,
        "size of the simulated EPC",
        integer_between(1, LARGEST_EPC_MIB),
        "MIB",
        shown=str(DEFAULT_SIMULATED_EPC_MIB),
    )
    """None to look for hardware."""
    accounting: AccountingSetting = choice(
        AccountingSetting.AUTO,
        f"how EPC is counted, one of {', '.join(AccountingSetting)}; a node with EPC in use keeps what it has",
        "HOW",
    )
    api_server: ApiVersion | None = setting(
        None,
        "version of the API server, such as 1.36; kubelets before 1.36 do not stall with many devices",
        _api_server,
        "VERSION",
        shown="unknown",
    )
    capacity_support: CapacitySupport = choice(
        CapacitySupport.OFFLINE,
        f"whether the cluster can count EPC as capacity, one of {', '.join(CapacitySupport)}",
        "STATE",
    )
    max_epc_mib: int | None = setting(
        None,
        "maximum of the advertised EPC; devices stall a restarted kubelet for 0.4 s at 2048 and 1.75 s at 4096",
        integer_between(1, LARGEST_EPC_MIB),
        "MIB",
        shown="decided with the accounting",
    )
    reserve_epc_mib: int = setting(
        0, "EPC reserved for enclaves outside of Kubernetes", integer_between(0, LARGEST_EPC_MIB), "MIB"
    )
    helper_epc_mib: int = setting(
        DEFAULT_HELPER_MIB,
        f"EPC set aside for each of {HELPERS} quote helpers; 0: none",
        integer_between(0, MAX_DEVICES // HELPERS),
        "MIB",
    )
    epc_resource: str = setting(REAL.epc, "resource name of EPC, in MiB", _resource_name, "NAME")
    enclave_resource: str = setting(REAL.enclave, "resource name of use of the enclave device", _resource_name, "NAME")
    provision_resource: str = setting(
        REAL.provision, "resource name of use of the provision device", _resource_name, "NAME"
    )
    helper_resource: str = setting(REAL.helper, "resource name of the quote helpers' EPC", _resource_name, "NAME")
    installation: str = setting(
        DEFAULT_INSTALLATION,
        "name of this installation; a plugin of another installation cannot offer the same resource on the node",
        str,
        "NAME",
    )
    device_plugin_dir: Path = setting(
        DEFAULT_DEVICE_PLUGIN_DIRECTORY, "the kubelet's device plugin directory", parse_path, "DIR"
    )
    aesmd_mount: bool = switch(
        f"mount the host's {AESM_DIRECTORY} into containers, read-only; otherwise they have to mount it", default=True
    )
    host_root: Path = setting(
        Path("/"), "directory that contains the host's /sys, /dev, /proc and /etc/group", parse_path, "DIR"
    )

    @property
    def resources(self) -> ResourceSettings:
        accounting = AccountingSettings(self.accounting, self.api_server, self.capacity_support, self.max_epc_mib)
        names = {kind: getattr(self, f"{kind}_resource") for kind in ResourceKind}
        return ResourceSettings(accounting, self.reserve_epc_mib, self.helper_epc_mib, names)


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser[PluginSettings]:
    return SettingsParser(PluginSettings, prog, description=_DESCRIPTION, environ=environ, epilog=_EPILOG)


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> PluginSettings:
    settings = settings_parser(prog, environ).parse(arguments)
    epc_mib = settings.simulated_epc_mib
    if epc_mib is not None and not settings.simulated:
        raise SettingsError(
            f"{prog}: --simulated-epc-mib is given without --simulated",
            error_code="simulated-not-given",
            why="simulation is never enabled by default",
            remedy="add --simulated, or leave --simulated-epc-mib out",
        )
    _ = settings.resources  # raises SettingsError for repeated names
    return replace(settings, simulated_epc_mib=(epc_mib or DEFAULT_SIMULATED_EPC_MIB) if settings.simulated else None)
