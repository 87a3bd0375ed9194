"""The judgement of a node's quote: the verifier's verdict, and what ends soon."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from confcom.addon.daemon_pods import one_line
from confcom.node_test.outcome import Cause
from confcom.sample_workload import DEFAULT_ENCLAVE_NAME
from confcom.sgx.pck.chain import PckChain
from confcom.sgx.quote import Quote
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.verify import INTEL, Collateral, SgxPolicy, TrustedRoot, read_collateral, read_root, verify
from confcom.verify.trust import intel_root

_OVERDUE = 0.75
"""The part of the collateral's time that may pass. Renewal is due after half of it, and overdue after half of the rest:
Intel's collateral lives 30 days, and a source that has failed for a week will not mend itself."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Root, collateral and measurements by which the quotes of one platform are judged."""

    root: TrustedRoot
    collateral: Collateral
    simulated: bool
    """Whether the chart simulates the nodes; only then is a simulated quote accepted."""
    mr_enclave: bytes | str | None = None
    mr_signer: bytes | str | None = None


def sample_trust(root: TrustedRoot, collateral: Collateral) -> Trust:
    """Return the trust in simulated nodes, whose Pods run the sample."""
    return Trust(root, collateral, True, SimulatedEnclave.from_name(DEFAULT_ENCLAVE_NAME).mr_enclave)


def release_trust(platform: SimulatedPlatform, staging: Staging, now: datetime) -> Trust:
    """Return the trust in a release's simulated nodes, with collateral of the release's `simulated.staging`."""
    collateral = Collateral.from_files(platform.collateral(now, staging=staging).to_files())
    return sample_trust(TrustedRoot.load(platform.pki.root.pem), collateral)


def file_trust(root: str, collateral: Path, mr_enclave: str | None, mr_signer: str | None) -> Trust:
    """Read a person's root, collateral and measurement (hexadecimal); without one, the nodes are simulated."""
    anchor = intel_root() if root == INTEL.value else read_root(Path(root))
    found = read_collateral(collateral)
    if not (mr_enclave or mr_signer):
        return sample_trust(anchor, found)
    SgxPolicy(mr_enclave=mr_enclave, mr_signer=mr_signer)
    return Trust(anchor, found, False, mr_enclave, mr_signer)


def refusal(quote: bytes, challenge: bytes, trust: Trust, now: datetime) -> Cause | None:
    """Return the first check that fails, by its code; None if the quote is verified."""
    policy = SgxPolicy.for_challenge(
        challenge, mr_enclave=trust.mr_enclave, mr_signer=trust.mr_signer, allow_simulated=trust.simulated
    )
    verdict = verify(quote, policy, trust.collateral, trust.root, now)
    if verdict.ok:
        return None
    check = verdict.failures[0]
    said = f"{verdict.kind}: required {check.required}; found {check.found}"
    return Cause(one_line(said), one_line(check.why), code=check.code)


def ending(quote: bytes, trust: Trust, now: datetime, within: timedelta) -> Cause | None:
    """Return which certificate of a verified quote ends within a time, or that the collateral is not renewed."""
    pck = PckChain.from_quote(Quote.parse(quote)).leaf.not_valid_after_utc
    for name, end in (("the PCK certificate", pck), ("the root certificate", trust.root.not_after)):
        if end - now <= within:
            what = f"{name} ends at {end:%Y-%m-%d %H:%M} UTC, in {max((end - now).days, 0)} days"
            return Cause(what, "renew it, or give a smaller --fail-within", code="certificate-ends")
    for name, begin, end in trust.collateral.read().periods:
        if now - begin >= _OVERDUE * (end - begin):
            what = f"{name} was issued at {begin:%Y-%m-%d}, ends at {end:%Y-%m-%d}, and was not renewed"
            return Cause(what, "see why the source of collateral is not read", code="collateral-not-renewed")
    return None
