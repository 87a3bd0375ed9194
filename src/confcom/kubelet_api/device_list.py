"""Device IDs, and the bytes of a whole device list.

The kubelet takes a list as one message of at most 4 MiB, so the length of an ID decides how many devices a node can
have: decimal IDs end near 230,000 devices, three characters reach 262,144 in exactly 4 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence

from confcom.errors import ConfcomError, ExitCode
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import HEALTHY, RECEIVE_LIMIT

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""base64url's digits in their order: all are safe in checkpoints, pod status and logs."""
ID_LENGTH = 3
"""Characters of every ID. One length for all, so that list entries differ only in the ID."""
MAX_DEVICES = len(ALPHABET) ** ID_LENGTH
"""262,144: as many IDs as there are, and as many 16-byte entries as fit the kubelet's receive limit."""

MAX_CONTAINERS = 16
"""In one AllocateRequest. The kubelet, to 1.37, asks for one container at a time; the API permits several."""
_CONTAINER_BYTES = 1 + 3
"""Tag and length of one ContainerAllocateRequest: the length of MAX_DEVICES IDs takes 3 bytes."""

_DIGITS = {character: value for value, character in enumerate(ALPHABET)}
_NO_DIGIT = 255
_VALUES = bytes(_DIGITS.get(chr(byte), _NO_DIGIT) for byte in range(256))
"""For bytes.translate."""


class DeviceListTooLongError(ConfcomError):
    """The kubelet would reject the list, and the resource would never appear on the node."""

    exit_code = ExitCode.USAGE


def device_id(index: int) -> str:
    """The ID of the device at an index; the same at every start, so that a kubelet's allocations stay valid.

    Raises:
        DeviceListTooLongError: the index is outside of what IDs can name.
    """
    if not 0 <= index < MAX_DEVICES:
        raise _too_long(index + 1)
    high, rest = divmod(index, len(ALPHABET) ** 2)
    middle, low = divmod(rest, len(ALPHABET))
    return ALPHABET[high] + ALPHABET[middle] + ALPHABET[low]


def all_below(identifiers: Sequence[str], count: int) -> bool:
    """Whether every one is the ID of a device below a count; without a table of all IDs, and quick for a thousand.

    Args:
        identifiers: in any order; with none, it holds.
        count: at most MAX_DEVICES.
    """
    if not identifiers:
        return True
    digits = "".join(identifiers).encode("ascii", "replace").translate(_VALUES)
    if set(map(len, identifiers)) != {ID_LENGTH} or max(digits) == _NO_DIGIT:
        return False
    high, rest = divmod(count, len(ALPHABET) ** 2)
    return max(zip(digits[0::3], digits[1::3], digits[2::3], strict=True)) < (high, *divmod(rest, len(ALPHABET)))


def encode_device_list(count: int) -> bytes:
    """One ListAndWatchResponse with the devices 0 to count - 1, all healthy.

    Entries of a repeated field concatenate, and ours differ only in the ID: protobuf encodes one, the rest follow.

    Raises:
        DeviceListTooLongError: the kubelet would not receive the list.
    """
    model = device_id(0)
    entry = pb.ListAndWatchResponse(devices=[pb.Device(ID=model, health=HEALTHY)]).SerializeToString()
    before, _, after = entry.partition(model.encode())
    if len(entry) * count > RECEIVE_LIMIT:
        raise _too_long(count)
    return b"".join(before + device_id(index).encode() + after for index in range(count))


def max_allocate_bytes(count: int) -> int:
    """How long an AllocateRequest can be that names each of `count` devices once.

    Five bytes for an ID, with its tag and length; and what up to MAX_CONTAINERS containers that share the devices add.
    """
    one_id = len(pb.ContainerAllocateRequest(devices_ids=[device_id(0)]).SerializeToString())
    return one_id * count + _CONTAINER_BYTES * MAX_CONTAINERS


def _too_long(count: int) -> DeviceListTooLongError:
    return DeviceListTooLongError(
        f"{count:,} devices do not fit one device list",
        why=f"the kubelet receives at most {RECEIVE_LIMIT:,} bytes, which hold {MAX_DEVICES:,} devices",
        remedy="lower the maximum number of devices",
    )
