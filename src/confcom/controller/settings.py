"""Settings of the controller."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.controller.decision import Rules
from confcom.controller.facts import Release
from confcom.daemon.settings import DaemonSettings, SettingsParser, integer_between, parse_path, setting
from confcom.kubernetes.epc_accounting import LARGEST_EPC_MIB
from confcom.kubernetes.names import DEFAULT_NAMESPACE, REAL, RELEASE, extended_resource

LARGEST_MAXIMUM_MIB = 16 * 1024 * 1024
DEFAULT_GONE_SECONDS = 300  # a plugin's update or a node's restart takes less time
LONGEST_GONE_SECONDS = 7 * 24 * 3600

_DESCRIPTION = """\
Write what a node's device plugin found into the node's capacity, on nodes whose EPC is not offered as devices.

Each flag can also be given by the environment variable named beside it; a flag wins. Outside of a cluster, give
--kubeconfig, where Pods' addresses can be reached."""


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
        if not extended_resource(name):
            raise ValueError(f"they must be extended resources such as example.com/name, and not {name!r}")
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings(DaemonSettings):
    kubeconfig: Path | None = setting(
        None, "kubeconfig file of the cluster", parse_path, "PATH", shown="the Pod's ServiceAccount"
    )
    installation: Release = setting(
        Release(DEFAULT_NAMESPACE, RELEASE),
        "the Helm release whose device plugins are asked",
        _release,
        "NAMESPACE/NAME",
        shown=f"{DEFAULT_NAMESPACE}/{RELEASE}",
    )
    node_selector: tuple[str, ...] = setting(
        ("",),
        "label selectors of the nodes that are watched, with semicolons between them",
        _selectors,
        "SELECTORS",
        shown="all nodes",
    )
    epc_resource: tuple[str, ...] = setting(
        (REAL.epc,),
        "resource names that are written, with commas between them; other resources are never touched",
        _resources,
        "NAMES",
        shown=REAL.epc,
    )
    max_epc_mib: int = setting(
        LARGEST_EPC_MIB,
        "maximum that is written to a node, whatever its plugin says",
        integer_between(1, LARGEST_MAXIMUM_MIB),
        "MIB",
    )
    gone_seconds: int = setting(
        DEFAULT_GONE_SECONDS,
        "how long a node has to be without a plugin until its key is removed",
        integer_between(1, LONGEST_GONE_SECONDS),
        "SECONDS",
    )
    plugin_port: int = setting(8080, "port of the plugins' probe servers", integer_between(1, 65535), "PORT")

    @property
    def rules(self) -> Rules:
        return Rules(self.epc_resource, self.max_epc_mib, float(self.gone_seconds))


def settings_parser(prog: str, environ: Mapping[str, str]) -> SettingsParser[ControllerSettings]:
    return SettingsParser(ControllerSettings, prog, description=_DESCRIPTION, environ=environ)


def parse_settings(arguments: Sequence[str], *, prog: str, environ: Mapping[str, str]) -> ControllerSettings:
    return settings_parser(prog, environ).parse(arguments)
