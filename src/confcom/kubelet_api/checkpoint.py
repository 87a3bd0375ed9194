"""The kubelet's checkpoint of devices; the format is internal to the kubelet, but equal in 1.34 to 1.37."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from confcom.errors import UnavailableError

T = TypeVar("T")

CHECKPOINT_NAME = "kubelet_internal_checkpoint"


@dataclass(frozen=True, slots=True)
class HeldDevices:
    pod: str
    container: str
    resource: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of the kubelet's checkpoint that confcom uses."""

    registered: dict[str, int]
    """Keyed by resource: the number of healthy devices, which is 0 while no plugin serves the resource."""
    held: dict[str, list[str]]
    """Keyed by resource: the IDs of the devices that containers hold, or held until the containers ended."""


def encode_checkpoint(registered: Mapping[str, Iterable[str]], held: Iterable[HeldDevices]) -> bytes:
    """Return a checkpoint without a checksum and without the plugins' answers to Allocate."""
    entries = [
        {
            "PodUID": one.pod,
            "ContainerName": one.container,
            "ResourceName": one.resource,
            "DeviceIDs": {"-1": one.ids},
            "AllocResp": None,
        }
        for one in held
    ]
    devices = {name: list(identifiers) for name, identifiers in registered.items()}
    data = {"PodDeviceEntries": entries or None, "RegisteredDevices": devices}
    return json.dumps({"Data": data, "Checksum": 0}, separators=(",", ":")).encode()


def decode_checkpoint(data: bytes) -> Checkpoint:
    try:
        content = json.loads(data)["Data"]
        devices = _typed(dict, content["RegisteredDevices"])
        registered = {name: len(_typed(list, identifiers)) for name, identifiers in devices.items()}
        held: dict[str, list[str]] = {}
        for entry in content["PodDeviceEntries"] or ():
            of_resource = held.setdefault(_typed(str, entry["ResourceName"]), [])
            for identifiers in _typed(dict, entry["DeviceIDs"]).values():
                of_resource += [_typed(str, one) for one in _typed(list, identifiers)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unusable(f"it has another format: {type(error).__name__}") from error
    return Checkpoint(registered, held)


def _typed(kind: type[T], value: object) -> T:
    """Return `value` if its type is `kind`. Null (Go writes it for empty maps and lists) counts as empty."""
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value


def unusable(why: str) -> UnavailableError:
    return UnavailableError(
        "the kubelet's checkpoint cannot be used",
        error_code="kubelet-checkpoint-unreadable",
        why=why,
        remedy="set --accounting to what the node has in use, or drain the node",
    )
