"""dcap-qvl judges each vector, without the vector's policy."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Final

import dcap_qvl

from confcom.verify import TrustedRoot
from vectors.comparison import Judgement, compare, folder_of
from vectors.vector import Vector

KNOWN: Final = {
    "it ignores bytes after the quote": ["*-certification-data-length-changed", "*-trailing-bytes"],
    "it does not look at the root in the chain": ["*-root-of-a-stranger-in-the-chain", "*-root-twice"],
    "it accepts a chain without root": ["*-chain-without-root"],
    "it does not check the dates of the trusted root": ["*-root-expired"],
    "it does not compare common names": ["*-leaf-with-the-common-name-*", "*-signer-with-another-common-name"],
    "it does not compare PCE ids": ["*-pce-id-another", "*-for-another-pce-id"],
    "any certificate of the root may sign collateral": ["*-signed-by-a-pck"],
    "it mixes TCB recoveries": ["*-of-another-tcb-recovery"],
    "it does not read the issuer chain of the PCK's revocation list": ["*-pck-revocation-list-s-chain-of-a-stranger"],
    "it does not know our marks": ["*-mark-removed-*", "*-not-marked-as-simulated", "*-intel-s-common-name", "*-names"],
    "it does not read the type of the QE's certification data": ["tdx-type-of-the-qe-s-certification-changed"],
    "it refuses each debug enclave or TD": ["*-debug", "*-debug-enclave", "*-debug-accepted"],
    "it refuses each TD with this attribute": ["tdx-td-attribute-*"],
    "it refuses each TD with a service TD": ["tdx-*-service-td"],
}
"""Patterns of names of vectors that dcap-qvl 0.7 judges differently, keyed by the reason."""


def judge(vector: Vector) -> Judgement:
    root, time = TrustedRoot.load(vector["root"].encode()).der, datetime.fromisoformat(vector["time"])
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(vector["collateral"]))
        quote = bytes.fromhex(vector["quote"])
        report = dcap_qvl.verify_with_root_ca(quote, collateral, root, int(time.timestamp()))
    except ValueError as error:
        return Judgement(None, reason=str(error).partition("\n")[0])
    return Judgement(report.status, list(report.advisory_ids))


if __name__ == "__main__":
    sys.exit(compare(folder_of("vectors.run_dcap_qvl", __doc__), judge, KNOWN))
