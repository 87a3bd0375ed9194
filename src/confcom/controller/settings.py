"""Settings of the controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confcom.controller.reconcile.decision import Rules
from confcom.controller.reconcile.reading import Release
from confcom.daemon.logs import LogFormat
from confcom.daemon.probes import ProbeAddress
from confcom.daemon.settings import SettingsParser, add_common_flags, integer_between, parse_path

DEFAULT_RESOURCE = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
DEFAULT_RELEASE = Release("confcom-system", "confcom")
DEFAULT_MAXIMUM_MIB = 1024 * 1024
"""1 TiB: two sockets with the largest EPC of a processor (512 GiB)."""
LARGEST_MAXIMUM_MIB = 16 * 1024 * 1024
DEFAULT_GONE_SECONDS = 300  # longer than any update of a plugin, or a restart of its node
LONGEST_GONE_SECONDS = 7 * 24 * 3600

_DESCRIPTION = """\
Write what a node's device plugin found into the node's capacity, on nodes whose EPC is not offered as devices.

Each flag can also be given by the environment variable named beside it; a flag wins. Outside of a cluster, give
--kubeconfig, where Pods' addresses can be reached."""


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """The settings of the controller, as its flags give them."""

    kubeconfig: Path | None
    release: Release
    node_selectors: tuple[str, ...]
    rules: Rules
    plugin_port: int
    probe_address: ProbeAddress | None
    log_level: str
    log_format: LogFormat


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser:
    """Return the declared flags, for parsing, `--help` and shell completion."""
    parser = SettingsParser(prog, description=_DESCRIPTION, environ=environ)

    def add(name: str, convert: Callable[[str], Any], default: Any, metavar: str, text: str, shown: str = "") -> None:  # noqa: ANN401, PLR0917
        parser.add(name, convert=convert, default=default, metavar=metavar, text=text, shown_default=shown)

    add("--kubeconfig", parse_path, None, "PATH", "kubeconfig file of the cluster", "the Pod's ServiceAccount")
    text = "the Helm release whose device plugins are asked"
    add("--installation", _release, DEFAULT_RELEASE, "NAMESPACE/NAME", text, "confcom-system/confcom")
    text = "label selectors of the nodes that are watched, with semicolons between them"
    add("--node-selector", _selectors, ("",), "SELECTORS", text, "all nodes")
    text = "resource names that are written, with commas between them; other resources are never touched"
    add("--epc-resource", _resources, (DEFAULT_RESOURCE,), "NAMES", text, DEFAULT_RESOURCE)
    text = "maximum that is written to a node, whatever its plugin says"
    add("--max-epc-mib", integer_between(1, LARGEST_MAXIMUM_MIB), DEFAULT_MAXIMUM_MIB, "MIB", text)
    text = "how long a node has to be without a plugin until its key is removed"
    add("--gone-seconds", integer_between(1, LONGEST_GONE_SECONDS), DEFAULT_GONE_SECONDS, "SECONDS", text)
    add("--plugin-port", integer_between(1, 65535), 8080, "PORT", "port of the plugins' probe servers")
    add_common_flags(parser)
    return parser


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> ControllerSettings:
    """Parse the settings."""
    values = vars(settings_parser(prog, environ).parse(arguments))
    rules = Rules(values.pop("epc_resource"), values.pop("max_epc_mib"), float(values.pop("gone_seconds")))
    release, selectors = values.pop("installation"), values.pop("node_selector")
    return ControllerSettings(release=release, node_selectors=selectors, rules=rules, **values)


def _release(text: str) -> Release:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise ValueError(f"it must be NAMESPACE/NAME, not {text!r}")
    return Release(namespace, name)


def _selectors(text: str) -> tuple[str, ...]:
    selectors = tuple(dict.fromkeys(part.strip() for part in text.split(";")))
    if not all(selectors):
        raise ValueError("a selector is empty; without the flag, all nodes are watched")
    return selectors


def _resources(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        domain, _, short = name.partition("/")
        if not (domain and short) or "kubernetes.io" in domain:
            raise ValueError(f"they must be extended resources such as example.com/name, and not {name!r}")
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return names
