"""Intel's QVL of 2023 judges each vector of SGX, without the vector's policy. It cannot judge quotes of TDX."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

from confcom.errors import MalformedError
from testkit.verify.intels_library import intels_status
from vectors.comparison import Judgement, compare, folder_of
from vectors.vector import Vector, evidence_of

STATUSES: Final = {
    "STATUS_OK": "UpToDate",
    "STATUS_TCB_SW_HARDENING_NEEDED": "SWHardeningNeeded",
    "STATUS_TCB_CONFIGURATION_NEEDED": "ConfigurationNeeded",
    "STATUS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED": "ConfigurationAndSWHardeningNeeded",
    "STATUS_TCB_OUT_OF_DATE": "OutOfDate",
    "STATUS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED": "OutOfDateConfigurationNeeded",
}
"""TCB statuses, keyed by their names in Intel's QVL."""
KNOWN: Final = {
    "it accepts authentication data of any size": ["sgx-auth-data-of-31-bytes-bound-and-signed"],
    "it reads enclaves' quotes of version 4": ["sgx-version-4-of-an-enclave-signed"],
    "it does not check when a certificate's validity begins": ["sgx-leaf-not-yet-valid"],
    "it does not check basic constraints": ["sgx-leaf-that-is-a-ca", "sgx-intermediate-that-is-no-ca"],
    "it does not refuse unknown critical extensions": ["sgx-unknown-critical-extension-in-the-leaf"],
    "it does not check issue dates": ["sgx-tcb-info-issued-*", "sgx-qe-identity-issued-*"],
    "it mixes TCB recoveries": ["sgx-*-of-another-tcb-recovery"],
    "it does not read the issuer chain of the PCK's revocation list": ["sgx-pck-revocation-list-s-chain-of-a-stranger"],
    "it does not look for the root in the root's list": ["sgx-root-revoked-in-its-own-list"],
    "it does not know our marks": [
        "sgx-mark-removed-*",
        "sgx-root-not-marked-*",
        "sgx-*-intel-s-common-name",
        "sgx-*-names",
    ],
    "it cannot judge quotes of TDX": ["sgx-quote-of-a-td"],
}
"""Patterns of names of vectors that sgx-dcap-quote-verify-python 0.0.3 judges differently, keyed by the reason."""


def judge(vector: Vector) -> Judgement | None:
    if vector["tee"] != "sgx":
        return None
    try:
        status = intels_status(evidence_of(vector))
    except MalformedError as error:  # the package takes certificates, not a quote with certificates in it
        return Judgement(None, reason=str(error))
    return Judgement(STATUSES.get(status), reason=status)


if __name__ == "__main__":
    if find_spec("sgx_dcap_quote_verify") is None:
        sys.exit("sgx-dcap-quote-verify-python is not installed; it exists for CPython 3.11 on x86-64 Linux only")
    folder = folder_of("vectors.run_intel_qvl", __doc__)
    sys.stdout.write("Vectors of TDX are skipped, since Intel's QVL of 2023 cannot judge quotes of TDX.\n")
    sys.exit(compare(folder, judge, KNOWN))
