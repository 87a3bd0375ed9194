"""Settings of the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.controller.reconcile.decision import Rules
from confcom.controller.reconcile.reading import Release
from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import SettingsParser, add_common_flags, integer_between, parse_path

DEFAULT_RESOURCES: tuple[str, ...] = ("kubernetes.azure.com/sgx_epc_mem_in_MiB",)
DEFAULT_INSTALLATION = "confcom-system/confcom"
DEFAULT_MAXIMUM_MIB = 1024 * 1024
"""1 TiB: two sockets with the largest EPC of a processor (512 GiB)."""
LARGEST_MAXIMUM_MIB = 16 * 1024 * 1024
DEFAULT_GONE_SECONDS = 300
"""Longer than any update of a plugin, or a restart of its node."""
LONGEST_GONE_SECONDS = 7 * 24 * 3600
DEFAULT_PLUGIN_PORT = 8080

_DESCRIPTION = """\
Write what a node's device plugin found into the node's capacity, on nodes whose EPC is not offered as devices.

Each flag can also be given by the environment variable named beside it; a flag wins."""
_EPILOG = """\
examples:
  confcom controller --kubeconfig ~/.kube/config   outside of a cluster, where Pods' addresses can be reached
"""


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The settings of the controller, as its flags give them."""

    kubeconfig: Path | None
    """None for the cluster that this Pod runs in."""
    release: Release
    rules: Rules
    plugin_port: int
    probe_address: ProbeAddress | None
    log_level: str
    log_format: LogFormat


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser:
    """Return the declared flags, for parsing, `--help` and shell completion."""
    parser = SettingsParser(prog, description=_DESCRIPTION, environ=environ, epilog=_EPILOG)
    parser.add(
        "--kubeconfig",
        convert=parse_path,
        default=None,
        metavar="PATH",
        text="kubeconfig file of the cluster",
        shown_default="the Pod's ServiceAccount",
    )
    parser.add(
        "--installation",
        convert=_release,
        default=_release(DEFAULT_INSTALLATION),
        metavar="NAMESPACE/NAME",
        text="the Helm release whose device plugins are asked",
        shown_default=DEFAULT_INSTALLATION,
    )
    parser.add(
        "--epc-resource",
        convert=_resources,
        default=DEFAULT_RESOURCES,
        metavar="NAMES",
        text="resource names that are written, with commas between them; other resources are never touched",
        shown_default=",".join(DEFAULT_RESOURCES),
    )
    parser.add(
        "--max-epc-mib",
        convert=integer_between(1, LARGEST_MAXIMUM_MIB),
        default=DEFAULT_MAXIMUM_MIB,
        metavar="MIB",
        text="maximum that is written to a node, whatever its plugin says",
    )
    parser.add(
        "--gone-seconds",
        convert=integer_between(1, LONGEST_GONE_SECONDS),
        default=DEFAULT_GONE_SECONDS,
        metavar="SECONDS",
        text="how long a node has to be without a plugin until its key is removed",
    )
    parser.add(
        "--plugin-port",
        convert=integer_between(1, 65535),
        default=DEFAULT_PLUGIN_PORT,
        metavar="PORT",
        text="port of the plugins' probe servers",
    )
    add_common_flags(parser)
    return parser


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> ControllerSettings:
    """Parse the settings."""
    values = vars(settings_parser(prog, environ).parse(arguments))
    rules = Rules(values.pop("epc_resource"), values.pop("max_epc_mib"), float(values.pop("gone_seconds")))
    return ControllerSettings(release=values.pop("installation"), rules=rules, **values)


def _release(text: str) -> Release:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ValueError(f"it must be NAMESPACE/NAME, not {text!r}")
    return Release(namespace, name)


def _resources(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        domain, _, short = name.partition("/")
        if not (domain and short) or "kubernetes.io" in domain:
            raise ValueError(f"they must be extended resources such as example.com/name, and not {name!r}")
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return names
