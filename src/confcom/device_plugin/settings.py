"""Settings of the device plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import SettingsParser, add_common_flags, integer_between, parse_path
from confcom.device_plugin.allocation import AESMD_DIRECTORY
from confcom.device_plugin.resources import DEFAULT_MAX_EPC_DEVICES
from confcom.errors import SettingsError
from confcom.kubelet_api.device_list import MAX_DEVICES

DEFAULT_DEVICE_PLUGIN_DIRECTORY = Path("/var/lib/kubelet/device-plugins")
"""Fixed in the kubelet below its --root-dir."""
DEFAULT_SIMULATED_EPC_MIB = 168
"""What a Standard_DC8_v2 has, the largest of the sizes that device accounting was made for."""
LARGEST_SIMULATED_EPC_MIB = 1024 * 1024
"""1 TiB: two sockets with the largest EPC that a processor offers (512 GiB)."""

_DESCRIPTION = """\
Offer this node's EPC to the kubelet as kubernetes.azure.com/sgx_epc_mem_in_MiB (one device is one MiB), and the SGX
device nodes as sgx.intel.com/enclave and sgx.intel.com/provision.

Each flag can also be given by the environment variable named beside it; a flag wins."""
_EPILOG = """\
examples:
  confcom device-plugin                                     on a node with SGX
  confcom device-plugin --simulated                         on a node without, 168 MiB of pretended EPC
  confcom device-plugin --simulated --simulated-epc-mib 28  ... of a smaller node
"""


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """All that can be set; each is a flag."""

    simulated_epc_mib: int | None
    """None: look for hardware."""
    max_epc_mib: int
    device_plugin_dir: Path
    aesmd_dir: str
    host_root: Path
    probe_address: ProbeAddress | None
    log_level: str
    log_format: LogFormat


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser:
    """The flags, for parsing, for `--help` and for shell completion."""
    parser = SettingsParser(prog, description=_DESCRIPTION, environ=environ, epilog=_EPILOG)
    parser.add_switch("--simulated", text="offer simulated EPC; refused on a node with an SGX driver")
    parser.add(
        "--simulated-epc-mib",
        convert=integer_between(1, LARGEST_SIMULATED_EPC_MIB),
        default=None,
        metavar="MIB",
        text="how much EPC to simulate",
        shown_default=str(DEFAULT_SIMULATED_EPC_MIB),
    )
    parser.add(
        "--max-epc-mib",
        convert=integer_between(1, MAX_DEVICES),
        default=DEFAULT_MAX_EPC_DEVICES,
        metavar="MIB",
        text="advertise at most this much; a kubelet stalls after its restart, 0.4 s at 2048 and 1.75 s at 4096",
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
        text=f"the host's directory with the AESM socket, given to containers read-only at {AESMD_DIRECTORY}",
    )
    parser.add(
        "--host-root",
        convert=parse_path,
        default=Path("/"),
        metavar="DIR",
        text="where the host's /sys and /dev are looked at",
    )
    add_common_flags(parser)
    return parser


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> PluginSettings:
    """Read the settings.

    Raises:
        SettingsError: a value that cannot be, or values that contradict each other.
    """
    values = vars(settings_parser(prog, environ).parse(arguments))
    simulated, epc_mib = values.pop("simulated"), values.pop("simulated_epc_mib")
    if epc_mib is not None and not simulated:
        raise SettingsError(
            f"{prog}: --simulated-epc-mib is given without --simulated",
            why="simulation is never on by itself",
            remedy="add --simulated, or leave --simulated-epc-mib out",
        )
    return PluginSettings(simulated_epc_mib=(epc_mib or DEFAULT_SIMULATED_EPC_MIB) if simulated else None, **values)


def _absolute_path(text: str) -> str:
    path = parse_path(text)
    if not path.is_absolute():
        raise ValueError(f"it must be an absolute path on the host, not {text!r}")
    return str(path)
