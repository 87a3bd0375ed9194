"""Makes and checks device IDs, and encodes a whole device list.

The kubelet receives a list as one message of at most 4 MiB, so the length of IDs limits a node's number of
devices. Decimal IDs allow about 230,000 devices; IDs of three characters allow 262,144 (exactly 4 MiB).
"""

import base64
from collections.abc import Iterable, Sequence

from confcom.kubelet_api import deviceplugin_pb2 as pb
from confcom.kubelet_api.services import HEALTHY

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""The digits of base64url in their order, which are all safe in checkpoints, pod status and logs."""
ID_LENGTH = 3
"""Number of characters of every ID. All IDs have the same length, so list entries differ only in the ID."""
FIRST_DECIMAL = ALPHABET.index("0") * len(ALPHABET) ** 2
"""212,992: the first device whose ID can consist of decimal digits only, as the IDs of other plugins do."""

MAX_CONTAINERS = 16
"""Maximum containers per AllocateRequest. Kubelets (up to 1.37) send one container; the API permits more."""
_CONTAINER_BYTES = 1 + 3
"""Bytes of a ContainerAllocateRequest's tag (1) and length (3, which is enough for MAX_DEVICES IDs)."""

_DIGITS = frozenset(ALPHABET)
_NO_DIGIT = 255
_VALUES = bytes(ALPHABET.index(one) if one in ALPHABET else _NO_DIGIT for one in map(chr, range(256)))
"""A table for bytes.translate, which turns the characters of an ID into the values of its digits."""


def device_id(index: int) -> str:
    """Return a device's ID, its index as base64url. IDs never change, as the kubelet keeps allocated ones."""
    return base64.urlsafe_b64encode((index << 6).to_bytes(3, "big"))[:ID_LENGTH].decode()


def least_count(identifiers: Iterable[str], *, most: int) -> int:
    """Return the minimum length of a device list with all our IDs among `identifiers`; 0 if no ID is ours.

    Another plugin's IDs may be decimal numbers, which may look like our IDs: `100` would be our ID of device
    220,468. An ID is ours only if the index of its device is below `most`.
    """
    ours = (one for one in identifiers if len(one) == ID_LENGTH and _DIGITS.issuperset(one))
    indexes = (int.from_bytes(base64.urlsafe_b64decode(f"{one}A"), "big") >> 6 for one in ours)
    return max((index + 1 for index in indexes if index < most), default=0)


def all_below(identifiers: Sequence[str], count: int) -> bool:
    """Return whether every identifier is the ID of a device with an index below `count`.

    The function needs no table of all IDs, and checks a thousand IDs fast. `count` is at most MAX_DEVICES.
    """
    if not identifiers:
        return True
    digits = "".join(identifiers).encode("ascii", "replace").translate(_VALUES)
    if set(map(len, identifiers)) != {ID_LENGTH} or max(digits) == _NO_DIGIT:
        return False
    high, rest = divmod(count, len(ALPHABET) ** 2)
    return max(zip(digits[0::3], digits[1::3], digits[2::3], strict=True)) < (high, *divmod(rest, len(ALPHABET)))


def encode_device_list(count: int) -> bytes:
    """Return the healthy devices 0 to count - 1 as a ListAndWatchResponse: one encoded entry, copied for each ID."""
    model = device_id(0)
    entry = pb.ListAndWatchResponse(devices=[pb.Device(ID=model, health=HEALTHY)]).SerializeToString()
    before, _, after = entry.partition(model.encode())
    return b"".join(before + device_id(index).encode() + after for index in range(count))


def max_allocate_bytes(count: int) -> int:
    """Return the maximum size in bytes of an AllocateRequest that names each of `count` devices once."""
    one_id = len(pb.ContainerAllocateRequest(devices_ids=[device_id(0)]).SerializeToString())
    return one_id * count + _CONTAINER_BYTES * MAX_CONTAINERS
