"""Settings of the device plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import SettingsParser, add_common_flags, integer_between, member_of, parse_path
from confcom.device_plugin.kubelet.allocation import AESMD_DIRECTORY
from confcom.device_plugin.resources import (
    DEFAULT_HELPER_MIB,
    DEFAULT_NAMES,
    ResourceKind,
    ResourceSettings,
)
from confcom.errors import SettingsError
from confcom.kubelet_api.device_list import MAX_DEVICES
from confcom.kubelet_api.resource_names import extended_resource
from confcom.kubernetes.epc_accounting import (
    HELPERS,
    AccountingSetting,
    AccountingSettings,
    ApiVersion,
    CapacitySupport,
    parse_api_version,
)

DEFAULT_DEVICE_PLUGIN_DIRECTORY = Path("/var/lib/kubelet/device-plugins")
"""A constant of the kubelet, independent of its --root-dir."""
DEFAULT_SIMULATED_EPC_MIB = 168
"""The EPC of a Standard_DC8_v2, the largest of the sizes that device accounting was made for."""
LARGEST_EPC_MIB = 1024 * 1024
"""1 TiB: two sockets with the largest EPC of a processor (512 GiB)."""

DEFAULT_INSTALLATION = "confcom"
"""The same for all plugins without a name of their own, which then count as instances of one update."""

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


_WHAT = {
    ResourceKind.EPC: "EPC, in MiB",
    ResourceKind.ENCLAVE: "use of the enclave device",
    ResourceKind.PROVISION: "use of the provision device",
    ResourceKind.HELPER: "the quote helpers' EPC",
}


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """The settings of the device plugin, as its flags give them."""

    simulated_epc_mib: int | None  # None to look for hardware
    resources: ResourceSettings
    installation: str
    """Two plugins of one installation are instances of an update; plugins of two never serve the same resource."""
    device_plugin_dir: Path
    aesmd_dir: str | None  # None if containers mount it themselves
    host_root: Path
    probe_address: ProbeAddress | None
    log_level: str
    log_format: LogFormat


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser:
    """Return the declared flags, for parsing, `--help` and shell completion."""
    parser = SettingsParser(prog, description=_DESCRIPTION, environ=environ, epilog=_EPILOG)
    parser.add_switch("--simulated", text="offer simulated EPC; fails on a node with an SGX driver")
    parser.add(
        "--simulated-epc-mib",
        convert=integer_between(1, LARGEST_EPC_MIB),
        default=None,
        metavar="MIB",
        text="size of the simulated EPC",
        shown_default=str(DEFAULT_SIMULATED_EPC_MIB),
    )
    _add_accounting_flags(parser)
    parser.add(
        "--reserve-epc-mib",
        convert=integer_between(0, LARGEST_EPC_MIB),
        default=0,
        metavar="MIB",
        text="EPC reserved for enclaves outside of Kubernetes",
    )
    parser.add(
        "--helper-epc-mib",
        convert=integer_between(0, MAX_DEVICES // HELPERS),
        default=DEFAULT_HELPER_MIB,
        metavar="MIB",
        text=f"EPC set aside for each of {HELPERS} quote helpers; 0 if they request none",
    )
    for kind, name in DEFAULT_NAMES.items():
        parser.add(
            f"--{kind}-resource",
            convert=_resource_name,
            default=name,
            metavar="NAME",
            text=f"resource name of {_WHAT[kind]}",
        )
    parser.add(
        "--installation",
        convert=str,
        default=DEFAULT_INSTALLATION,
        metavar="NAME",
        text="name of this installation; a plugin of another installation cannot offer the same resource on the node",
    )
    parser.add(
        "--device-plugin-dir",
        convert=parse_path,
        default=DEFAULT_DEVICE_PLUGIN_DIRECTORY,
        metavar="DIR",
        text="the kubelet's device plugin directory",
    )
    parser.add(
        "--aesmd-dir",
        convert=_absolute_path,
        default=AESMD_DIRECTORY,
        metavar="DIR",
        text=f"the host's directory with the AESM socket, mounted read-only into containers at {AESMD_DIRECTORY}",
    )
    parser.add_switch(
        "--aesmd-mount",
        text="mount that directory into containers; otherwise containers have to mount it themselves",
        default=True,
    )
    parser.add(
        "--host-root",
        convert=parse_path,
        default=Path("/"),
        metavar="DIR",
        text="directory that contains the host's /sys, /dev, /proc and /etc/group",
    )
    add_common_flags(parser)
    return parser


def _add_accounting_flags(parser: SettingsParser) -> None:
    parser.add(
        "--accounting",
        convert=member_of(AccountingSetting),
        default=AccountingSetting.AUTO,
        metavar="HOW",
        text=f"how EPC is counted, one of {', '.join(AccountingSetting)}; a node with EPC in use keeps what it has",
        words=tuple(AccountingSetting),
    )
    parser.add(
        "--api-server",
        convert=_api_server,
        default=None,
        metavar="VERSION",
        text="version of the API server, such as 1.36; kubelets before 1.36 do not stall with many devices",
        shown_default="unknown",
    )
    parser.add(
        "--capacity-support",
        convert=member_of(CapacitySupport),
        default=CapacitySupport.OFFLINE,
        metavar="STATE",
        text=f"whether the cluster can count EPC as capacity, one of {', '.join(CapacitySupport)}",
        words=tuple(CapacitySupport),
    )
    parser.add(
        "--max-epc-mib",
        convert=integer_between(1, LARGEST_EPC_MIB),
        default=None,
        metavar="MIB",
        text="maximum of the advertised EPC; devices stall a restarted kubelet for 0.4 s at 2048 and 1.75 s at 4096",
        shown_default="decided with the accounting",
    )


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> PluginSettings:
    """Parse the settings."""
    values = vars(settings_parser(prog, environ).parse(arguments))
    simulated, epc_mib = values.pop("simulated"), values.pop("simulated_epc_mib")
    if epc_mib is not None and not simulated:
        raise SettingsError(
            f"{prog}: --simulated-epc-mib is given without --simulated",
            error_code="simulated-not-given",
            why="simulation is never enabled by default",
            remedy="add --simulated, or leave --simulated-epc-mib out",
        )
    if not values.pop("aesmd_mount"):
        values["aesmd_dir"] = None
    resources = ResourceSettings(
        accounting=AccountingSettings(
            setting=values.pop("accounting"),
            api_server=values.pop("api_server"),
            support=values.pop("capacity_support"),
            max_epc_mib=values.pop("max_epc_mib"),
        ),
        reserve_mib=values.pop("reserve_epc_mib"),
        helper_mib=values.pop("helper_epc_mib"),
        names={kind: values.pop(f"{kind}_resource") for kind in ResourceKind},
    )
    simulated_epc = (epc_mib or DEFAULT_SIMULATED_EPC_MIB) if simulated else None
    return PluginSettings(simulated_epc_mib=simulated_epc, resources=resources, **values)


def _resource_name(text: str) -> str:
    if not extended_resource(text):
        raise ValueError(f"the kubelet takes names such as example.com/name, without kubernetes.io/, and not {text!r}")
    return text


def _api_server(text: str) -> ApiVersion | None:
    """Return the version; None for an empty text, which the chart gives if it does not know."""
    return parse_api_version(text) if text else None


def _absolute_path(text: str) -> str:
    path = parse_path(text)
    if not path.is_absolute():
        raise ValueError(f"it must be an absolute path on the host, not {text!r}")
    return str(path)
