"""The kubelet's record of registered and allocated devices: its checkpoint, in the device plugin directory.

The format is internal to the kubelet and has no version; it is the same in 1.34 to 1.37. Only the choice of accounting
depends on it, and a file that cannot be used is told apart from one that does not exist.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from confcom.device_plugin.accounting import EpcInUse
from confcom.device_plugin.kubelet.socket_names import SocketNames
from confcom.errors import UnavailableError
from confcom.kubelet_api.device_list import highest_index

CHECKPOINT_NAME = "kubelet_internal_checkpoint"
MAX_CHECKPOINT_BYTES = 6 * 1024 * 1024
"""262,144 devices that are all allocated take 3.2 MB; the rest is for other plugins. Decoding takes about ten times the
size, within the 128 MiB of the plugin in the chart."""


class CheckpointError(UnavailableError):
    """The kubelet's checkpoint cannot be read, or has another format."""

    error_code = "kubelet-checkpoint-unreadable"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the kubelet recorded."""

    registered: dict[str, int]
    """Healthy devices of each resource that the kubelet knows; 0 while no plugin serves it."""
    held: dict[str, int]
    """For each resource of which containers hold devices, or held: how many devices it must have had, by our IDs."""

    def epc_in_use(self, *, epc_resource: str, enclave_resource: str) -> EpcInUse:
        """Return what the kubelet knows of the EPC that is offered under these names."""
        held = epc_resource in self.held
        devices = self.registered.get(epc_resource)
        if held:
            # While no plugin serves the resource, the kubelet has 0 registered, and still knows what containers hold.
            devices = max(devices or 0, self.held[epc_resource])
        # A plugin that offers the enclave device alone counts EPC as capacity.
        capacity = devices is None and enclave_resource in self.registered
        return EpcInUse(devices, held, capacity and enclave_resource in self.held)


def find_epc_in_use(names: SocketNames, *, epc_resource: str, enclave_resource: str) -> EpcInUse:
    """Return what is in use of the EPC under these names: by the kubelet's record, else by earlier instances' sockets.

    A record that cannot be used says nothing. Sockets of an instance that runs, or was killed, still show how that
    instance counts; how many of its devices containers hold is then unknown, so they count as held.
    """
    try:
        checkpoint = read_checkpoint(names.directory)
    except CheckpointError as error:
        doubt = str(error)
    else:
        if checkpoint is not None:
            return checkpoint.epc_in_use(epc_resource=epc_resource, enclave_resource=enclave_resource)
        doubt = ""
    if names.has_sockets_of(epc_resource):
        return EpcInUse(devices=0, devices_held=True, doubt=doubt)
    return EpcInUse(capacity_held=names.has_sockets_of(enclave_resource), doubt=doubt)


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """Return the checkpoint, or None if the kubelet has written none.

    Raises:
        CheckpointError: the file cannot be read or decoded; the error has the reason.
    """
    try:
        with (directory / CHECKPOINT_NAME).open("rb") as file:
            data = file.read(MAX_CHECKPOINT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(error.strerror or str(error)) from error
    if len(data) > MAX_CHECKPOINT_BYTES:
        raise _unusable(f"it is longer than {MAX_CHECKPOINT_BYTES:,} bytes")
    return decode_checkpoint(data)


def decode_checkpoint(data: bytes) -> Checkpoint:
    """Decode a checkpoint. Pure.

    Raises:
        CheckpointError: it has another format.
    """
    try:
        content = json.loads(data)["Data"]
        registered = {name: len(_list(devices)) for name, devices in _members(content["RegisteredDevices"])}
        held: dict[str, int] = {}
        for entry in content["PodDeviceEntries"] or ():
            name = _text(entry["ResourceName"])
            identifiers = (_text(one) for _, devices in _members(entry["DeviceIDs"]) for one in _list(devices))
            highest = highest_index(identifiers)
            held[name] = max(held.get(name, 0), 0 if highest is None else highest + 1)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unusable(f"it has another format: {type(error).__name__}") from error
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


def _unusable(why: str) -> CheckpointError:
    return CheckpointError(
        "the kubelet's checkpoint cannot be used",
        why=why,
        remedy="set --accounting to what the node has in use, or drain the node",
    )
