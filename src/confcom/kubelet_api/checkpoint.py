"""The kubelet's record of registered and allocated devices: a file in the device plugin directory. Pure.

The format is internal to the kubelet and has no version; it is the same in 1.34 to 1.37.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confcom.errors import UnavailableError

CHECKPOINT_NAME = "kubelet_internal_checkpoint"


class CheckpointError(UnavailableError):
    """The kubelet's checkpoint cannot be read, or has another format."""

    error_code = "kubelet-checkpoint-unreadable"


@dataclass(frozen=True, slots=True)
class HeldDevices:
    pod: str
    container: str
    resource: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the kubelet recorded, as far as it is used."""

    registered: dict[str, int]
    """Healthy devices of each resource that the kubelet knows; 0 while no plugin serves it."""
    held: dict[str, list[str]]
    """For each resource of which containers hold devices, or held: the IDs of these devices."""


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
        registered = {name: len(_list(devices)) for name, devices in _members(content["RegisteredDevices"])}
        held: dict[str, list[str]] = {}
        for entry in content["PodDeviceEntries"] or ():
            name = _text(entry["ResourceName"])
            identifiers = held.setdefault(name, [])
            identifiers += [_text(one) for _, devices in _members(entry["DeviceIDs"]) for one in _list(devices)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unusable(f"it has another format: {type(error).__name__}") from error
    return Checkpoint(registered, held)


def _members(value: object) -> list[tuple[str, object]]:
    """Return the members of an object; Go writes null for an empty map."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise TypeError("no object")
    return list(value.items())


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _list(value: object) -> list[object]:
    """Return a list; Go writes null for an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def unusable(why: str) -> CheckpointError:
    return CheckpointError(
        "the kubelet's checkpoint cannot be used",
        why=why,
        remedy="set --accounting to what the node has in use, or drain the node",
    )
