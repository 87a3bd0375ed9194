"""What Intel's client library of 2.26 sends for EPID, launch tokens and white lists, and what 2.26's service answers
when it has neither."""

from __future__ import annotations

from dataclasses import dataclass

from confcom.aesm.messages import MessageKind
from testkit.replay import wire

INTEL_MS = 15_000
PLATFORM_INFO_SIZE = 101
SIGNER_MODULUS_SIZE = 384
"""GetLicToken's mr_signer is the RSA modulus, not its hash."""


@dataclass(frozen=True, slots=True)
class LegacyCall:
    """One request.

    Args:
        kind: its field.
        content: what is in that field.
        zeros: the numbers that 2.26 answers as 0 beside the error code.
    """

    kind: MessageKind
    content: bytes
    zeros: tuple[int, ...] = ()

    @property
    def body(self) -> bytes:
        """The request without its header."""
        return wire.data(self.kind, self.content + wire.number(9, INTEL_MS))

    @property
    def refusal(self) -> bytes:
        """The answer without its header: 30 in the same field."""
        zeros = b"".join(wire.number(field, 0) for field in self.zeros)
        return wire.data(self.kind, wire.number(1, 30) + zeros)


LEGACY_CALLS = (
    LegacyCall(MessageKind.INIT_QUOTE, b""),
    LegacyCall(
        MessageKind.GET_QUOTE,
        wire.data(1, bytes(432))
        + wire.number(2, 1)
        + wire.data(3, bytes(16))
        + wire.data(4, bytes(16))
        + wire.number(6, 1244)
        + wire.number(7, 1),
    ),
    LegacyCall(
        MessageKind.GET_LIC_TOKEN,
        wire.data(1, bytes(32)) + wire.data(2, bytes(SIGNER_MODULUS_SIZE)) + wire.data(3, bytes(16)),
    ),
    LegacyCall(
        MessageKind.REPORT_ERR, wire.data(1, bytes(PLATFORM_INFO_SIZE)) + wire.number(2, 1) + wire.number(3, 80)
    ),
    LegacyCall(MessageKind.GET_WHITE_LIST_SIZE, b"", zeros=(2,)),
    LegacyCall(MessageKind.GET_WHITE_LIST, wire.number(1, 4096)),
    LegacyCall(MessageKind.SGX_GET_EXTENDED_EPID_GROUP_ID, b"", zeros=(2,)),
    LegacyCall(MessageKind.SGX_SWITCH_EXTENDED_EPID_GROUP, wire.number(1, 0)),
    LegacyCall(MessageKind.SGX_REGISTER, wire.data(1, bytes(64)) + wire.number(2, 0)),
    LegacyCall(
        MessageKind.CHECK_UPDATE_STATUS,
        wire.data(1, bytes(PLATFORM_INFO_SIZE)) + wire.number(2, 80) + wire.number(3, 0),
        zeros=(3,),
    ),
)
