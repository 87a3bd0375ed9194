"""Device IDs, and the bytes of a whole device list.

The kubelet takes a list as one message of at most 4 MiB, so the length of an ID decides how many devices a node can
have: decimal IDs end near 230,000 devices, three characters reach 262,144 in exactly 4 MiB.
"""

from __future__ import annotations

from confcom.errors import ConfcomError, ExitCode, MalformedError
from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import HEALTHY, RECEIVE_LIMIT

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""base64url's digits in their order: all are safe in checkpoints, pod status and logs."""
ID_LENGTH = 3
"""Characters of every ID. One length for all, so that list entries differ only in the ID."""
MAX_DEVICES = len(ALPHABET) ** ID_LENGTH
"""262,144: as many IDs as there are, and as many 16-byte entries as fit the kubelet's receive limit."""

_DIGITS = {character: value for value, character in enumerate(ALPHABET)}


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


def device_index(identifier: str) -> int:
    """The index that an ID stands for: constant cost, no table of all IDs.

    Raises:
        MalformedError: not three base64url characters.
    """
    try:
        high, middle, low = tuple(identifier)
        return (_DIGITS[high] * len(ALPHABET) + _DIGITS[middle]) * len(ALPHABET) + _DIGITS[low]
    except (KeyError, ValueError):
        raise MalformedError(
            f"{identifier[:16]!r} is not a device ID",
            why=f"an ID is {ID_LENGTH} characters of base64url",
        ) from None


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


def _too_long(count: int) -> DeviceListTooLongError:
    return DeviceListTooLongError(
        f"{count:,} devices do not fit one device list",
        why=f"the kubelet receives at most {RECEIVE_LIMIT:,} bytes, which hold {MAX_DEVICES:,} devices",
        remedy="lower the maximum number of devices",
    )
