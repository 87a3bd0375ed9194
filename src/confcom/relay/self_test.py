"""The self-test of aesmd, which requests aesmd's restart if a restart may help."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.aesm.messages import QuotingTarget
from confcom.daemon.readiness_log import NotReady
from confcom.quote_provider.base import WRONG_SERVICE, Backend, QuoteProvider, QuoteProviderError
from confcom.quote_provider.expected_root import INTEL_ROOT, read_expected_root
from confcom.relay.instance import AesmdInstance, AesmdRun, AesmdRuns
from confcom.relay.provider import HANGS, UNREACHABLE, AesmdQuoteProvider
from confcom.relay.restart_policy import REQUEST_FILE, RestartPolicy, request_restart
from confcom.sgx.report import REPORT_SIZE, Report

_logger = logging.getLogger(__name__)

HANG_SECONDS: Final = 180.0
"""Duration of one call of the self-test after which aesmd counts as hung and is restarted. With Intel's configuration a
call may wait for PCCS for over a minute, and for two earlier calls of clients."""
SELF_TEST_SECONDS: Final = 45.0
"""Duration of a self-test (five calls; each may ask PCCS) after which no call is relayed until it passes."""
NO_KEYS: Final = code_of(AesmErrorCode.SERVICE_UNAVAILABLE)
"""Code of aesmd's answer to GetSupportedAttKeyIDNum if aesmd has not loaded the quoting enclave."""
FULL_TEST_SECONDS: Final = 60.0
"""Interval of full self-tests, whose calls may cost requests to PCCS; other tests only list aesmd's keys."""
_REFUSALS: Final = frozenset({AesmErrorCode.INVALID_REPORT, AesmErrorCode.ATT_KEY_NOT_INITIALIZED})
"""Codes for a report with a wrong MAC, from a service whose InitQuoteEx and GetQuoteSizeEx succeeded just before.
Intel's aesmd gives the first, a quote helper the second while the report may be for an earlier quoting enclave."""


def run_hardware_self_test(provider: QuoteProvider) -> QuotingTarget:
    """Get identity and quote size, and check that the quoting enclave refuses a report with a wrong MAC.

    The helper has no enclave for a valid report. A refusal proves a running QE, as only the QE checks MACs.
    """
    identity = provider.identity()
    provider.quote_size()
    try:
        provider.quote(Report.parse(bytes(REPORT_SIZE)), None)
    except QuoteProviderError as error:
        if error.code not in _REFUSALS:
            raise
        return identity
    raise QuoteProviderError(
        AesmErrorCode.UNEXPECTED_ERROR,
        "the quoting service signs reports that no enclave made",
        error_code="wrong-report-signed",
        why="it made a quote of a report whose MAC is zero",
        remedy=WRONG_SERVICE,
    )


@dataclass(slots=True, eq=False)
class AesmdSelfTest:
    """The self-test of aesmd, which requests a restart in a file beside the socket if only a restart helps.

    `tester` has a longer deadline than the clients' `provider`. A doubt about a call makes a full test due.
    """

    tester: AesmdQuoteProvider
    provider: AesmdQuoteProvider
    runs: AesmdRuns
    socket_path: Path
    clock: Callable[[], float]
    policy: RestartPolicy
    on_restart: Callable[[str], None]
    _tested: AesmdRun | None = field(init=False, default=None)
    _full_test_due: float = field(init=False, default=0.0)

    def __call__(self) -> QuotingTarget:
        run = self.runs.current()
        try:
            identity = self._test(run)
        except QuoteProviderError as error:
            self._tested = None
            if run is not None and (error is run.failure or error.error_code == HANGS):
                error.outage_seconds = self._restart(run.instance, error)
            raise
        self.policy.reset()
        try:
            self.socket_path.with_name(REQUEST_FILE).unlink(missing_ok=True)
        except OSError as failed:
            _logger.warning("the request for aesmd's restart cannot be withdrawn", extra={"error": str(failed)})
        return identity

    def problem(self) -> NotReady | None:
        """Return a problem if the last quote for a client was not relayed. Self-tests make no quotes."""
        rejected = self.provider.rejected
        return None if rejected is None else NotReady(str(rejected), code=rejected.error_code)

    def _test(self, run: AesmdRun | None) -> QuotingTarget:
        doubted, self.provider.doubted = self.provider.doubted, False
        known = self.tester.last_identity
        try:
            self._require_keys()
            due = known is None or doubted or run is not self._tested or self.clock() >= self._full_test_due
            if due and not (run and run.failure):
                known = run_hardware_self_test(self.tester)
                self._tested, self._full_test_due = run, self.clock() + FULL_TEST_SECONDS
                if run is not None:
                    run.lasting.clear()
        except QuoteProviderError as error:
            if error.error_code == UNREACHABLE or not (run and run.failure):
                raise
        if run is not None and run.failure is not None:
            raise run.failure.with_traceback(None)
        assert known is not None
        return known

    def _require_keys(self) -> None:
        try:
            self.tester.supported_key_count()
        except QuoteProviderError as error:
            if error.error_code == NO_KEYS:
                self.tester.identity()  # raises error 38, or error 30 if aesmd lacks the plug-in for quotes
            raise

    def _restart(self, instance: AesmdInstance, error: QuoteProviderError) -> float:
        """Request a restart if one is due; return the seconds until it is due."""
        if self.policy.is_being_restarted(instance):
            return 0.0
        seconds = self.policy.seconds_until_due()
        if seconds == 0:
            self.policy.restart(instance)
            try:
                request_restart(self.socket_path, instance)
            except OSError as failed:
                _logger.warning("the request for aesmd's restart cannot be written", extra={"error": str(failed)})
            else:
                _logger.error("aesmd's restart is requested", extra={"error": str(error)})
                self.on_restart("hang" if error.error_code == HANGS else error.code.name.lower())
        return seconds


def open_aesmd(
    socket_path: Path,
    *,
    expected_root: Path | None,
    on_restart: Callable[[str], None] = lambda _: None,
    on_pck: Callable[[x509.Certificate], None] = lambda _: None,
    hang_seconds: float = HANG_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Backend:
    """Return aesmd, which need not run yet, as a backend. The default for `expected_root` is Intel's root.

    `on_restart` is called with the cause of each restart that is requested: a code's name in lower case, or "hang".
    `on_pck` is called with the PCK certificate of the first quote for a client, and of each quote whose chain differs
    from the previous quote's.
    """
    root = INTEL_ROOT if expected_root is None else read_expected_root(expected_root)
    _logger.info("quotes come from aesmd", extra={"socket": str(socket_path), "root": str(root)})
    if not root.is_intel:
        _logger.warning("TEST ROOT: quotes of this helper are never genuine", extra={"root": str(root)})
    runs = AesmdRuns(socket_path)
    provider = AesmdQuoteProvider(socket_path, root, runs, on_pck=on_pck)
    tester = AesmdQuoteProvider(socket_path, root, runs, call_seconds=hang_seconds)
    self_test = AesmdSelfTest(tester, provider, runs, socket_path, clock, RestartPolicy(clock), on_restart)
    return Backend(
        provider,
        self_test,
        self_test_seconds=SELF_TEST_SECONDS,
        waits_for="aesmd, which may wait for PCCS",
        problem=self_test.problem,
        in_loop=provider,
        doubted=lambda: provider.doubted,
        instance=runs.current,
    )
