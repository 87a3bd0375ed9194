"""Finds how much EPC is in use, from the kubelet's checkpoint or else from sockets of earlier plugins."""

from collections.abc import Mapping
from pathlib import Path

from confcom.device_plugin.resources import ResourceKind
from confcom.device_plugin.socket_names import SocketNames
from confcom.errors import UnavailableError
from confcom.kubelet_api.checkpoint import CHECKPOINT_NAME, Checkpoint, decode_checkpoint, unusable
from confcom.kubelet_api.device_list import FIRST_DECIMAL, least_count
from confcom.kubernetes.epc_accounting import EpcInUse

MAX_CHECKPOINT_BYTES = 6 * 1024 * 1024
"""Read limit. A checkpoint with 262,144 allocated devices has 3.2 MB; the rest is for other plugins. Decoding
takes about ten times the size in memory; in the chart, the plugin has 128 MiB."""


def find_epc_in_use(sockets: SocketNames, resources: Mapping[ResourceKind, str], epc_mib: int) -> EpcInUse:
    """Return how much EPC is in use according to the kubelet's checkpoint, or else according to sockets.

    An unusable checkpoint is ignored. Sockets show how a running or killed instance counts EPC, but not how
    many devices containers hold. The plugin then assumes that containers hold devices.
    """
    epc, enclave = resources[ResourceKind.EPC], resources[ResourceKind.ENCLAVE]
    try:
        checkpoint, doubt = read_checkpoint(sockets.directory), ""
    except UnavailableError as error:
        checkpoint, doubt = None, str(error)
    if checkpoint is not None:
        return epc_in_use(checkpoint, epc_resource=epc, enclave_resource=enclave, epc_mib=epc_mib)
    if sockets.has_sockets_of(epc):
        return EpcInUse(devices=0, devices_held=True, doubt=doubt)
    return EpcInUse(capacity_held=sockets.has_sockets_of(enclave), doubt=doubt)


def epc_in_use(checkpoint: Checkpoint, *, epc_resource: str, enclave_resource: str, epc_mib: int) -> EpcInUse:
    """Return how much EPC is in use according to a checkpoint; `epc_mib` is the node's EPC in MiB."""
    registered = checkpoint.registered.get(epc_resource, 0)
    held = epc_resource in checkpoint.held
    # The node may have had more EPC when the kubelet allocated the devices.
    most = max(registered, epc_mib, FIRST_DECIMAL)
    count = least_count(checkpoint.held.get(epc_resource, ()), most=most)
    if held or epc_resource in checkpoint.registered:
        # While no plugin serves EPC, the kubelet counts 0 devices, but still knows the devices that containers hold.
        return EpcInUse(registered or count, held, count)
    # A plugin that offers enclave devices and no EPC devices counts EPC as capacity.
    enclaves, offered = enclave_resource in checkpoint.held, enclave_resource in checkpoint.registered
    return EpcInUse(capacity_held=enclaves and offered, enclaves_held=enclaves and not offered)


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """Return the checkpoint; None if the file does not exist. Raise UnavailableError if it is unusable."""
    try:
        with (directory / CHECKPOINT_NAME).open("rb") as file:
            data = file.read(MAX_CHECKPOINT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unusable(error.strerror or str(error)) from error
    if len(data) > MAX_CHECKPOINT_BYTES:
        raise unusable(f"it is longer than {MAX_CHECKPOINT_BYTES:,} bytes")
    return decode_checkpoint(data)
