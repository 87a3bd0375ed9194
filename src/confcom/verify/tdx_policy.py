"""Policies for quotes of TDs, the virtual machines of TDX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Unpack

from confcom.errors import WrongTypeError, WrongValueError
from confcom.sgx.td_report import TD_MEASUREMENT_SIZE
from confcom.sgx.tee_type import TeeType
from confcom.verify.argument_types import binary
from confcom.verify.policy import Policy, SharedDemands, collection, set_fields
from confcom.verify.verdict import RTMRS, TdxClaims

ATTRIBUTES_SIZE: Final = 8
"""Bytes of TDATTRIBUTES and XFAM (TDX Module ABI Specification, "TDREPORT_STRUCT")."""


@dataclass(frozen=True, slots=True, init=False)
class TdImage:
    """An accepted image of TDs, named by what the host measured (MRTD) and by what software in the TD measured (RTMRs).

    Args:
        mr_td: 48 bytes.
        rtmr0: 48 bytes, or None to accept any; the same applies to the other three.
        rtmr1: 48 bytes.
        rtmr2: 48 bytes.
        rtmr3: 48 bytes.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value.
    """

    mr_td: bytes
    rtmr0: bytes | None
    rtmr1: bytes | None
    rtmr2: bytes | None
    rtmr3: bytes | None

    def __init__(
        self,
        *,
        mr_td: bytes | str,
        rtmr0: bytes | str | None = None,
        rtmr1: bytes | str | None = None,
        rtmr2: bytes | str | None = None,
        rtmr3: bytes | str | None = None,
    ) -> None:
        if mr_td is None:
            raise WrongTypeError("the image's mr_td", "48 bytes or 96 hexadecimal digits", mr_td)
        given = {"mr_td": mr_td, "rtmr0": rtmr0, "rtmr1": rtmr1, "rtmr2": rtmr2, "rtmr3": rtmr3}
        set_fields(self, **_measurements("the image's", given))

    def fits(self, claims: TdxClaims) -> bool:
        """Return whether the claims fit this image."""
        return self.mr_td == claims.mr_td and all(
            getattr(self, name) in {None, getattr(claims, name)} for name in RTMRS
        )


@dataclass(frozen=True, slots=True, init=False)
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
        shared: the arguments of `Policy`, such as `report_data`.

    Bytes may also be given as hexadecimal text.

    Raises:
        SettingsError: no quote could have a given value, or the mask has no value, or the value has bits outside of
            its mask.
        WrongTypeError: a value has the wrong type.
    """

    mr_td: bytes | None
    rtmr0: bytes | None
    rtmr1: bytes | None
    rtmr2: bytes | None
    rtmr3: bytes | None
    mr_seam: bytes | None
    td_attributes: bytes | None
    td_attributes_mask: bytes | None
    xfam: bytes | None
    mr_config_id: bytes | None
    mr_owner: bytes | None
    mr_owner_config: bytes | None
    images: tuple[TdImage, ...] | None

    def __init__(
        self,
        *,
        mr_td: bytes | str | None = None,
        rtmr0: bytes | str | None = None,
        rtmr1: bytes | str | None = None,
        rtmr2: bytes | str | None = None,
        rtmr3: bytes | str | None = None,
        mr_seam: bytes | str | None = None,
        td_attributes: bytes | str | None = None,
        td_attributes_mask: bytes | str | None = None,
        xfam: bytes | str | None = None,
        mr_config_id: bytes | str | None = None,
        mr_owner: bytes | str | None = None,
        mr_owner_config: bytes | str | None = None,
        images: Iterable[TdImage] | None = None,
        **shared: Unpack[SharedDemands],
    ) -> None:
        Policy.__init__(self, **shared)
        given = {"mr_td": mr_td, "rtmr0": rtmr0, "rtmr1": rtmr1, "rtmr2": rtmr2, "rtmr3": rtmr3, "mr_seam": mr_seam}
        given |= {"mr_config_id": mr_config_id, "mr_owner": mr_owner, "mr_owner_config": mr_owner_config}
        attributes = binary("the policy's td_attributes", td_attributes, ATTRIBUTES_SIZE)
        mask = binary("the policy's td_attributes_mask", td_attributes_mask, ATTRIBUTES_SIZE)
        if mask is not None:
            _require_masked(attributes, mask)
        set_fields(
            self,
            **_measurements("the policy's", given),
            td_attributes=attributes,
            td_attributes_mask=mask,
            xfam=binary("the policy's xfam", xfam, ATTRIBUTES_SIZE),
            images=None if images is None else tuple(map(_image, collection("images", images))),
        )

    @property
    def tee(self) -> TeeType:
        """The TEE whose quotes the policy is about: TDX."""
        return TeeType.TDX

    @property
    def names_identity(self) -> bool:
        """Whether the policy sets `mr_td` or `images`, even if `images` is empty."""
        return self.mr_td is not None or self.images is not None


def _measurements(whose: str, values: dict[str, bytes | str | None]) -> dict[str, bytes | None]:
    return {name: binary(f"{whose} {name}", value, TD_MEASUREMENT_SIZE) for name, value in values.items()}


def _require_masked(attributes: bytes | None, mask: bytes) -> None:
    if attributes is None or any(value & ~bits for value, bits in zip(attributes, mask, strict=True)):
        raise WrongValueError(
            "td_attributes_mask leaves out bits of td_attributes" if attributes else "td_attributes_mask has no value",
            why="the mask says which bits must be those of td_attributes",
            remedy="pass td_attributes with no bit outside of the mask",
        )


def _image(value: object) -> TdImage:
    if not isinstance(value, TdImage):
        raise WrongTypeError("an image", "a TdImage", value)
    return value
