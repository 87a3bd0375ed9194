"""The simulated platform as a backend. Imported on demand, because each kind of backend needs its own libraries."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from confcom.daemon.readiness_log import NotReady
from confcom.errors import ConfcomError
from confcom.quote_helper.quoting.provider_state import Backend, BackendCheck, BackendNotReadyError
from confcom.quote_helper.quoting.published_root import decide, read_published
from confcom.quote_helper.quoting.self_test import run_self_test
from confcom.quote_provider.simulated import SimulatedQuoteProvider
from confcom.quote_provider.state_directory import STATE_FILE, exposure, is_read_only, open_platform
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY, QuotingEnclaveIdentity

_logger = logging.getLogger(__name__)


def open_simulated(
    state_dir: Path,
    *,
    qe_mr_enclave: bytes | None = None,
    qe_isv_svn: int | None = None,
    published_root: Path | None = None,
) -> Backend:
    """Open the simulated platform, creating it if it is missing, and log how to verify its quotes.

    Args:
        state_dir: the platform's directory.
        qe_mr_enclave: MRENCLAVE of its quoting enclave; None: the default.
        qe_isv_svn: ISVSVN of its quoting enclave; None: the default.
        published_root: a file with the SHA-256 of the root that the platform must have; None: any root.

    Raises:
        BackendNotReadyError: the platform has another root than the published one.
        UnavailableError: the platform can neither be read nor created.
        MalformedError: the platform's file is damaged.
        SettingsError: the quoting enclave would have an identity of Intel's.
    """
    identity = DEFAULT_QE_IDENTITY
    if qe_mr_enclave is not None:
        identity = replace(identity, mr_enclave=qe_mr_enclave)
    if qe_isv_svn is not None:
        identity = replace(identity, isv_svn=qe_isv_svn)
    provider = SimulatedQuoteProvider.open_or_create(state_dir, qe_identity=identity)
    if published_root is not None:
        decision = decide("", provider.root_fingerprint, read_published(published_root))
        if decision.problem is not None:
            raise BackendNotReadyError(decision.problem)
    # A mounted Secret is exported through Kubernetes: its path does not exist outside the Pod.
    origin = "" if is_read_only(state_dir) else f"--state-dir {shlex.quote(str(state_dir))} "
    _logger.info(
        "the platform is simulated: root sha256 %s, kept in %s; to verify its quotes: "
        "confcom simulation export %sOUT && "
        "confcom verify QUOTE --root OUT/root.pem --collateral OUT/collateral --allow-simulated "
        "--mrenclave EXPECTED --report-data EXPECTED",
        provider.root_fingerprint,
        state_dir,
        origin,
    )
    if identity != DEFAULT_QE_IDENTITY:
        _logger.info(
            "the simulated quoting enclave is not the default one",
            extra={"qe_mrenclave": identity.mr_enclave.hex(), "qe_isvsvn": identity.isv_svn},
        )
    warning = exposure(state_dir)
    if warning is not None:
        _logger.warning("%s", warning)
    if published_root is None:
        return _backend(provider)
    return PublishedPlatform(state_dir, published_root, identity).backend(provider)


def _backend(provider: SimulatedQuoteProvider, check: Callable[[], BackendCheck] | None = None) -> Backend:
    enclave = SimulatedEnclave.from_name("confcom quote helper self-test")
    return Backend(
        provider,
        lambda: run_self_test(
            provider, lambda target_info: enclave.create_report(target_info, bytes(REPORT_DATA_SIZE))
        ),
        root=provider.root_fingerprint,
        check=check,
    )


class PublishedPlatform:
    """The platform in a state directory, which may be replaced, together with the published root.

    Args:
        state_dir: the platform's directory.
        published_root: the file with the root's SHA-256.
        identity: of the quoting enclave.
    """

    def __init__(self, state_dir: Path, published_root: Path, identity: QuotingEnclaveIdentity) -> None:
        self._state_dir = state_dir
        self._published_root = published_root
        self._identity = identity
        self._cached: tuple[tuple[int, int, int], SimulatedPlatform] | None = None

    def backend(self, provider: SimulatedQuoteProvider) -> Backend:
        """Return a backend for `provider` that checks this platform for a replacement."""
        return _backend(provider, lambda: self.check(provider.root_fingerprint))

    def check(self, in_use: str) -> BackendCheck:
        """Return whether the helper, which uses the root `in_use`, must switch to the platform that is there now."""
        try:
            platform = self._load()
        except (ConfcomError, OSError) as error:
            return BackendCheck(
                NotReady(f"this helper keeps using its current platform: {error}", code="mounted-platform-unusable")
            )
        decision = decide(in_use, platform.root_fingerprint, read_published(self._published_root))
        if not decision.take:
            return BackendCheck(decision.problem)
        return BackendCheck(successor=self.backend(SimulatedQuoteProvider(platform, self._identity)))

    def _load(self) -> SimulatedPlatform:
        """Return the platform that is there now. It is read only if its file has changed: that takes milliseconds."""
        found = (self._state_dir / STATE_FILE).stat()
        file = (found.st_dev, found.st_ino, found.st_mtime_ns)
        if self._cached is None or self._cached[0] != file:
            self._cached = (file, open_platform(self._state_dir))
        return self._cached[1]
