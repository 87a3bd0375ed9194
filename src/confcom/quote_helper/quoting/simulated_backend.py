"""The simulated platform as a backend. This module is imported on demand, as each backend has its own libraries."""

import logging
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import QuotingTarget
from confcom.quote_provider.base import Backend, Certificate, QuoteProvider, QuoteProviderError
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.quote_provider.quote_checks import QuoteChecker
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import exposure, is_read_only, open_or_create_platform, utc_now
from confcom.sgx.certificates import key_id
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY

_logger = logging.getLogger(__name__)

_OUTDATED = (
    "if a certificate is not valid now, correct the clock; otherwise delete the simulated root, create another and "
    "export it to relying parties"
)


def open_simulated(
    state_dir: Path, *, node: str = "", qe_mr_enclave: bytes | None = None, qe_isv_svn: int | None = None
) -> Backend:
    """Open the simulated platform, creating it if it is missing, and log how to verify its quotes.

    Raises:
        ConfcomError: the platform can neither be read nor created.
    """
    identity = DEFAULT_QE_IDENTITY
    if qe_mr_enclave is not None:
        identity = replace(identity, mr_enclave=qe_mr_enclave)
    if qe_isv_svn is not None:
        identity = replace(identity, isv_svn=qe_isv_svn)
    platform = open_or_create_platform(state_dir, node=node).platform
    provider, root = SimulatedQuoteProvider(platform, identity), platform.pki.root.certificate
    # A root in a mounted Secret is exported through Kubernetes, since its path exists only inside the Pod.
    origin = "" if is_read_only(state_dir) else f"--state-dir {shlex.quote(str(state_dir))} "
    _logger.info(
        "the platform is simulated: root sha256 %s, kept in %s; to verify its quotes: "
        "confcom simulation export %sOUT && "
        "confcom verify QUOTE --root OUT/root.pem --collateral OUT/collateral --allow-simulated "
        "--mrenclave EXPECTED --report-data EXPECTED",
        platform.root_fingerprint,
        state_dir,
        origin,
    )
    if (warning := exposure(state_dir)) is not None:
        _logger.warning("%s", warning)
    enclave = SimulatedEnclave.from_name("confcom quote helper self-test")

    def self_test() -> QuotingTarget:
        return run_self_test(provider, enclave, ExpectedRoot(key_id(root)), utc_now())

    certificates = {Certificate.PCK: platform.pki.pck.certificate, Certificate.SIMULATED_ROOT: root}
    return Backend(provider, self_test, root=platform.root_fingerprint, certificates=certificates)


def run_self_test(
    provider: QuoteProvider, enclave: SimulatedEnclave, root: ExpectedRoot, now: datetime
) -> QuotingTarget:
    """Get identity, quote size and a quote, as a client does, and verify the quote up to the root; return the identity.

    Signatures, the QE's report, the certificate chain and its dates are verified; revocation and TCB are not.
    """
    identity = provider.identity()
    size = provider.quote_size()
    report = enclave.create_report(identity.target_info, bytes(REPORT_DATA_SIZE))
    quote = provider.quote(report, None).quote
    try:
        QuoteChecker(root).check(quote, size=size, identity=identity, now=now)
    except QuoteProviderError as error:
        raise QuoteProviderError(
            AesmErrorCode.ATT_KEY_CERT_DATA_INVALID,
            "no verifier accepts the quote of the self-test",
            error_code=error.error_code,
            why=error.why,
            remedy=_OUTDATED if error.error_code == "quote-broken-chain" else "report this bug with the log",
        ) from error
    return identity
