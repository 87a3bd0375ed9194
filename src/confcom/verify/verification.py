"""`verify`, the entry point for relying parties."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Final

from confcom.sgx.collateral.bundle import Collateral
from confcom.verify.argument_types import WrongTypeError
from confcom.verify.files import intel_root
from confcom.verify.policy import Policy
from confcom.verify.trust import TrustedRoot
from confcom.verify.verdict import Verdict


class KnownRoot(Enum):
    """A root that comes with this package."""

    INTEL = "intel"
    """Intel's SGX Root CA, the root of all SGX hardware."""


INTEL: Final = KnownRoot.INTEL


def verify(
    quote: bytes | bytearray | memoryview,
    policy: Policy,
    collateral: Collateral | None,
    root: TrustedRoot | KnownRoot = INTEL,
    now: datetime | None = None,
) -> Verdict:
    """Decide whether to rely on a quote. Nothing is fetched, and a bad quote does not raise.

    Args:
        quote: one quote and nothing else, at most 64 KiB.
        policy: your demands on the quote.
        collateral: TCB info, QE identity and revocation lists of the quote's platform (`read_collateral`). With None
            the verdict is never better than unusable.
        root: the root certificate that you trust: INTEL, or a simulated platform's (`read_root`).
        now: the instant at which everything must be valid, with its time zone; None means the present.

    Returns:
        The verdict. `verdict.require_ok()` returns the claims, or raises.

    Raises:
        WrongTypeError: an argument has the wrong type.
        SettingsError: `now` has no time zone, is before 1970, or is after the year 9999.
        UnavailableError: the package dcap-qvl is not installed.
    """
    if isinstance(quote, (bytearray, memoryview)):
        quote = bytes(quote)
    for name, value, kinds, expected in (
        ("the quote", quote, bytes, "bytes"),
        ("the policy", policy, Policy, "a Policy"),
        ("the collateral", collateral, (Collateral, type(None)), "a Collateral (read_collateral makes one), or None"),
        ("the root", root, (TrustedRoot, KnownRoot), "INTEL or a TrustedRoot (read_root makes one)"),
        ("the time", now, (datetime, type(None)), "a datetime with a time zone, or None"),
    ):
        if not isinstance(value, kinds):
            raise WrongTypeError(name, expected, value)
    from confcom.verify.checks.dcap_qvl_appraisal import load_dcap_qvl  # noqa: PLC0415 # readers of quotes need neither
    from confcom.verify.verifier import verify_quote  # noqa: PLC0415

    load_dcap_qvl()
    trusted = intel_root() if isinstance(root, KnownRoot) else root
    return verify_quote(quote, trusted, collateral, policy, datetime.now(UTC) if now is None else now)
