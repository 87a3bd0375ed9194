"""Policies for quotes of TDs, the virtual machines of TDX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from confcom.errors import WrongTypeError, WrongValueError
from confcom.sgx.td_report import TD_MEASUREMENT_SIZE
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import Argument, Binary, check_arguments, sized, tuple_of
from confcom.verify.policy import Policy
from confcom.verify.verdict import RTMRS, TdxClaims

ATTRIBUTES_SIZE: Final = 8
"""Bytes of TDATTRIBUTES and XFAM (TDX Module ABI Specification, "TDREPORT_STRUCT")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TdImage:
    """An accepted image of TDs, named by what the host measured (MRTD) and by what software in the TD measured (RTMRs).

    Args:
        mr_td: 48 bytes; it must be given.
        rtmr0: 48 bytes, or None to accept any; the same applies to the other three.
        rtmr1: 48 bytes.
        rtmr2: 48 bytes.
        rtmr3: 48 bytes.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value, or `mr_td` is missing.
    """

    mr_td: Argument[bytes | str, bytes] = sized(TD_MEASUREMENT_SIZE)
    rtmr0: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr1: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr2: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr3: Binary = sized(TD_MEASUREMENT_SIZE)

    def __post_init__(self) -> None:
        check_arguments(self)
        if self.mr_td is None:
            raise WrongTypeError("mr_td", "48 bytes or 96 hexadecimal digits", None)

    def fits(self, claims: TdxClaims) -> bool:
        """Return whether the claims fit this image."""
        return self.mr_td == claims.mr_td and all(
            getattr(self, name) in {None, getattr(claims, name)} for name in RTMRS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxPolicy(Policy[TdxClaims]):
    """A relying party's demands on TDX quotes. Without arguments, a policy demands nothing and verifies no quote.

    A quote can be verified only if the policy names `mr_td` or `images`, and `report_data`. Without them any TD would
    be accepted; without report data an old quote could be replayed. MRTD covers the virtual firmware alone; kernel,
    command line and programs are in the RTMRs, which the policy should demand too. Whatever the policy, TDs are refused
    that are profiled, can be migrated or have a service TD, or that set reserved attributes or no SEPT_VE_DISABLE.

    Args:
        mr_td: MRTD, 48 bytes.
        rtmr0: RTMR0, 48 bytes; the same applies to the other three.
        rtmr1: RTMR1.
        rtmr2: RTMR2.
        rtmr3: RTMR3.
        mr_seam: MRSEAM, 48 bytes: one build of the TDX module. Without it, the collateral decides which are accepted.
        td_attributes: TDATTRIBUTES, 8 bytes, the most significant first, as `confcom inspect` shows them.
        td_attributes_mask: the bits of TDATTRIBUTES that must be those of `td_attributes`, 8 bytes in the same order.
            None means all bits.
        xfam: XFAM, 8 bytes in the same order.
        mr_config_id: MRCONFIGID, 48 bytes.
        mr_owner: MROWNER, 48 bytes.
        mr_owner_config: MROWNERCONFIG, 48 bytes.
        images: the accepted images; a quote must fit one of these, and also the demands above, so that an image can be
            replaced step by step. None means that only the demands above apply; an empty collection accepts no TD.

    Further arguments, such as `report_data`, and the errors are those of `Policy`. Bytes may also be given as
    hexadecimal text.

    Raises:
        SettingsError: the mask has no value, or the value has bits outside of its mask.
    """

    mr_td: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr0: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr1: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr2: Binary = sized(TD_MEASUREMENT_SIZE)
    rtmr3: Binary = sized(TD_MEASUREMENT_SIZE)
    mr_seam: Binary = sized(TD_MEASUREMENT_SIZE)
    td_attributes: Binary = sized(ATTRIBUTES_SIZE)
    td_attributes_mask: Binary = sized(ATTRIBUTES_SIZE)
    xfam: Binary = sized(ATTRIBUTES_SIZE)
    mr_config_id: Binary = sized(TD_MEASUREMENT_SIZE)
    mr_owner: Binary = sized(TD_MEASUREMENT_SIZE)
    mr_owner_config: Binary = sized(TD_MEASUREMENT_SIZE)
    images: Argument[Iterable[TdImage] | None, tuple[TdImage, ...] | None] = tuple_of(TdImage)

    tee: ClassVar = TeeType.TDX
    _IDENTITY: ClassVar = ("mr_td", "images")

    def __post_init__(self) -> None:
        Policy.__post_init__(self)
        value, mask = self.td_attributes, self.td_attributes_mask
        if mask is None or (value and not any(one & ~bits for one, bits in zip(value, mask, strict=True))):
            return
        raise WrongValueError(
            "td_attributes_mask leaves out bits of td_attributes" if value else "td_attributes_mask has no value",
            why="the mask says which bits must be those of td_attributes",
            remedy="pass td_attributes with no bit outside of the mask",
        )
