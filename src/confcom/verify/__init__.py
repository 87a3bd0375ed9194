"""Verification of quotes of SGX and TDX for relying parties. `verify` decides on a quote with a policy and collateral.

Nothing is fetched over the network. A simulated quote is accepted only if the policy allows simulated platforms.

verdict = verify(quote, policy, collateral)
claims = verdict.require_ok()
"""

from confcom.errors import ConfcomError, MalformedError, SettingsError, WrongTypeError, WrongValueError
from confcom.sgx.report import report_data
from confcom.sgx.tcb_documents import TcbStatus
from confcom.sgx.tee_type import TeeType
from confcom.verify.files import UnreadableInputError, read_collateral, read_quote, read_root
from confcom.verify.policy import Policy
from confcom.verify.policy_file import PolicyFileError, read_platforms, read_policy
from confcom.verify.prepared_collateral import Collateral, CollateralError, PreparedCollateral
from confcom.verify.sgx_policy import Identity, SgxPolicy
from confcom.verify.tdx_policy import TdImage, TdxPolicy
from confcom.verify.trust import INTEL, KnownRoot, Platform, TrustedRoot
from confcom.verify.verdict import (
    Check,
    CheckStatus,
    NotVerifiedError,
    SgxClaims,
    TdxClaims,
    Verdict,
    VerdictKind,
)
from confcom.verify.verifier import QuoteInput, tee_of_quote, verify

__all__ = [
    "INTEL",
    "Check",
    "CheckStatus",
    "Collateral",
    "CollateralError",
    "ConfcomError",
    "Identity",
    "KnownRoot",
    "MalformedError",
    "NotVerifiedError",
    "Platform",
    "Policy",
    "PolicyFileError",
    "PreparedCollateral",
    "QuoteInput",
    "SettingsError",
    "SgxClaims",
    "SgxPolicy",
    "TcbStatus",
    "TdImage",
    "TdxClaims",
    "TdxPolicy",
    "TeeType",
    "TrustedRoot",
    "UnreadableInputError",
    "Verdict",
    "VerdictKind",
    "WrongTypeError",
    "WrongValueError",
    "read_collateral",
    "read_platforms",
    "read_policy",
    "read_quote",
    "read_root",
    "report_data",
    "tee_of_quote",
    "verify",
]
