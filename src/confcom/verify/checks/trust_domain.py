"""Checks of a TD: flaws of its report that no policy accepts, and the policy's demands. No I/O."""

from collections.abc import Iterator
from enum import Enum
from typing import Final

from confcom.sgx.quote import QuoteBody
from confcom.sgx.report import ReportBody
from confcom.sgx.td_report import TdAttribute, TdReport15
from confcom.verify.checks.authorisation import compared, equal, refused
from confcom.verify.tdx_policy import TdImage, TdxPolicy
from confcom.verify.verdict import RTMRS, Check, TdxClaims, not_checked

_SERVICE_TD_FIELDS: Final = (
    *("mr_service_td", "init_service_td_hash", "cur_service_td_hash"),
    *("init_service_td_attributes", "cur_service_td_attributes"),
)


class Flaw(Enum):
    """Why a report of an enclave or TD is refused whatever the policy; the values are dcap-qvl's error texts (0.7).

    dcap-qvl gives these errors only after all its other checks have passed. confcom compares no other texts of errors.
    """

    DEBUG = "Debug mode is enabled"
    PROFILING = "TD profiling is enabled"
    RESERVED_ATTRIBUTES = "Reserved bits in TD attributes are set"
    MIGRATABLE = "TD migration is enabled"
    SERVICE_TD_EXTENSION = "SERVTD_EXT is enabled"
    NO_SEPT_VE_DISABLE = "SEPT_VE_DISABLE is not enabled"
    SERVICE_TD = "Invalid MR service TD"


_REQUIRED: Final = TdAttribute.SEPT_VE_DISABLE.value
_RESERVED: Final = sum(1 << bit for bits in (range(1, 4), range(7, 16), range(23, 27), range(32, 62)) for bit in bits)
"""Bits of TDATTRIBUTES that must be zero (TDX Module ABI Specification, 348551-008US, table 3.23)."""
_BITS: Final = {
    Flaw.DEBUG: TdAttribute.DEBUG.value,
    Flaw.PROFILING: (TdAttribute.HGS_PLUS_PROF | TdAttribute.PERF_PROF | TdAttribute.PMT_PROF).value,
    Flaw.RESERVED_ATTRIBUTES: _RESERVED,
    Flaw.MIGRATABLE: TdAttribute.MIGRATABLE.value,
    Flaw.SERVICE_TD_EXTENSION: TdAttribute.SERVTD_EXT.value,
    Flaw.NO_SEPT_VE_DISABLE: _REQUIRED,
}
"""The bits of TDATTRIBUTES that are flaws if they differ from `_REQUIRED`."""
_ATTRIBUTE_FLAWS: Final = {
    Flaw.PROFILING: "the host can profile the TD",
    Flaw.RESERVED_ATTRIBUTES: "reserved bits are set, whose meaning verifiers do not know",
    Flaw.MIGRATABLE: "the TD can be moved to another machine",
    Flaw.NO_SEPT_VE_DISABLE: "SEPT_VE_DISABLE is not set, so that the host can cause exceptions in the TD",
}
"""The flaws of the check `td-attributes`, and why they are flaws."""


def flaws_of(body: QuoteBody) -> frozenset[Flaw]:
    if isinstance(body, ReportBody):
        return frozenset({Flaw.DEBUG} if body.debug else ())
    wrong = body.td_attributes ^ _REQUIRED
    flaws = {flaw for flaw, bits in _BITS.items() if wrong & bits}
    if isinstance(body, TdReport15) and body.mr_service_td.strip(b"\0"):
        flaws.add(Flaw.SERVICE_TD)
    return frozenset(flaws)


def soundness_checks(claims: TdxClaims, flaws: frozenset[Flaw]) -> Iterator[Check]:
    """Check what no policy accepts: attributes that lay the TD open, and service TDs, which can act on the TD."""
    # `debug` decides on the bit DEBUG, which a policy can allow on simulated platforms.
    why = "; ".join(text for flaw, text in _ATTRIBUTE_FLAWS.items() if flaw in flaws)
    required = "SEPT_VE_DISABLE, no bit of TUD, not migratable, no reserved bits"
    yield compared(required, claims.td_attributes.hex(), why, code="td-attributes", holds=not why)
    values = [getattr(claims, name) or b"" for name in _SERVICE_TD_FIELDS]
    found = [value.hex() for value in values if value.strip(b"\0")]
    if Flaw.SERVICE_TD_EXTENSION in flaws:
        found.append("SERVTD_EXT")
    why = "a service TD, such as a migration TD, can read the TD's state, and the policy names none"
    yield compared("no service TD", ", ".join(found) or "none", why, code="service-td", holds=not found)


def td_checks(claims: TdxClaims, policy: TdxPolicy) -> Iterator[Check]:
    if not policy.names_identity:
        yield refused(
            "an expected mr_td or images",
            f"none in the policy; the quote's mr_td is {claims.mr_td.hex()}",
            "without an expected identity, any TD would be accepted, even an attacker's",
            code="identity",
        )
    fitting = [image for image in policy.images or () if image.fits(claims)]
    if policy.images is not None:
        found = ", ".join(f"{name} {getattr(claims, name).hex()}" for name in ("mr_td", *(() if fitting else RTMRS)))
        required = f"one of the policy's {len(policy.images)} images"
        yield compared(required, found, "none of them fits", code="images", holds=bool(fitting))
    yield from equal(policy.mr_td, claims.mr_td, "the TD began with another firmware", code="mr-td")
    other = "the TD ran other software, or ran it in another order"
    yield from equal(policy.rtmr0, claims.rtmr0, other, code="rtmr0")
    yield from equal(policy.rtmr1, claims.rtmr1, other, code="rtmr1")
    yield from equal(policy.rtmr2, claims.rtmr2, other, code="rtmr2")
    yield from equal(policy.rtmr3, claims.rtmr3, other, code="rtmr3")
    open_registers = [name for name in RTMRS if not _demanded(policy, fitting, name)]
    if open_registers:
        why = f"the policy demands no {', '.join(open_registers)}: what software extended into them is not proven, "
        why += "such as the kernel, its command line and programs"
        yield not_checked("an expected value of each RTMR", why, code="rtmr")
    yield from equal(policy.mr_seam, claims.mr_seam, "another build of the TDX module runs", code="mr-seam")
    yield from _attributes_demanded(claims, policy)
    yield from equal(policy.xfam, claims.xfam, "the TD may use other extended features", code="xfam")
    chosen = "the host started the TD with another one"
    yield from equal(policy.mr_config_id, claims.mr_config_id, chosen, code="mr-config-id")
    yield from equal(policy.mr_owner, claims.mr_owner, chosen, code="mr-owner")
    yield from equal(policy.mr_owner_config, claims.mr_owner_config, chosen, code="mr-owner-config")


def _demanded(policy: TdxPolicy, fitting: list[TdImage], name: str) -> bool:
    """Return whether the quote proved the register: the policy demands it, or every image that fits does."""
    by_images = bool(fitting) and all(getattr(image, name) is not None for image in fitting)
    return getattr(policy, name) is not None or by_images


def _attributes_demanded(claims: TdxClaims, policy: TdxPolicy) -> Iterator[Check]:
    if policy.td_attributes is None:
        return
    mask = policy.td_attributes_mask or b"\xff" * len(policy.td_attributes)
    masked = bytes(own & bits for own, bits in zip(claims.td_attributes, mask, strict=True))
    why = "the TD was started with other attributes"
    required = f"{policy.td_attributes.hex()} under the mask {mask.hex()}"
    holds = masked == policy.td_attributes
    yield compared(required, claims.td_attributes.hex(), why, code="td-attributes-demanded", holds=holds)
