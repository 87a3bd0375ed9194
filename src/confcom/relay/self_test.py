"""The self-test of aesmd, which asks for its restart if that may help."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confcom.aesm.error_code import AesmErrorCode, code_of
from confcom.daemon.readiness_log import NotReady
from confcom.quote_provider.base import WRONG_SERVICE, Backend, QuoteProvider, QuoteProviderError, QuotingIdentity
from confcom.quote_provider.expected_root import INTEL_ROOT, read_expected_root
from confcom.relay.instance import AesmdInstance, AesmdRecord
from confcom.relay.provider import UNREACHABLE, AesmdQuoteProvider
from confcom.relay.restart_policy import REQUEST_FILE, RestartPolicy, request_restart
from confcom.sgx.report import KEY_ID_SIZE, MAC_SIZE, REPORT_BODY_SIZE, Report

_logger = logging.getLogger(__name__)

HANG_SECONDS: Final = 180.0
"""For one call of the self-test, after which aesmd counts as hung and is restarted. By Intel's own configuration a call
may wait for PCCS for a minute and more, and it may wait behind two calls of clients."""
SELF_TEST_SECONDS: Final = 45.0
"""For one self-test, after which no requests are relayed until it has passed. It asks aesmd five times, and each may
ask PCCS."""
NO_KEYS: Final = code_of(AesmErrorCode.SERVICE_UNAVAILABLE)
"""Code of aesmd's answer to GetSupportedAttKeyIDNum if it has not loaded its quoting enclave."""
FULL_TEST_SECONDS: Final = 60.0
"""Between self-tests with InitQuoteEx, size and quote, each of which may cost a request to PCCS. Between them aesmd
only lists its keys."""
_REFUSALS: Final = frozenset({AesmErrorCode.INVALID_REPORT, AesmErrorCode.ATT_KEY_NOT_INITIALIZED})
"""Codes for a report with a wrong MAC, from a service whose InitQuoteEx and GetQuoteSizeEx succeeded just before.
Intel's gives the first. A quote helper gives the second while the report may be for an earlier quoting enclave."""


def run_hardware_self_test(provider: QuoteProvider) -> QuotingIdentity:
    """Get identity and quote size, and check that the quoting enclave refuses a report with a wrong MAC.

    The helper has no enclave, so it cannot make a right report. A refusal shows that the quoting enclave runs: only it
    can check the MAC.

    Raises:
        QuoteProviderError: the provider failed, or accepted the report.
    """
    identity = provider.identity()
    provider.quote_size()
    body = bytes(REPORT_BODY_SIZE)
    try:
        provider.quote(Report(body, key_id=bytes(KEY_ID_SIZE), mac=bytes(MAC_SIZE)), None)
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
    """The self-test of aesmd, which asks for its restart if that may help.

    `tester` is its own, with a longer deadline than the clients' `provider`, whose loss makes the next test a full one.
    Both share the record of the instance that runs. The request for a restart is written beside aesmd's socket.
    """

    tester: AesmdQuoteProvider
    provider: AesmdQuoteProvider
    record: AesmdRecord
    socket_path: Path
    clock: Callable[[], float]
    policy: RestartPolicy
    _tested: AesmdInstance | None = field(init=False, default=None)
    _full_test_due: float = field(init=False, default=0.0)

    def __call__(self) -> QuotingIdentity:
        """Run the self-test; it raises QuoteProviderError if aesmd makes no quotes."""
        instance = self.record.find()
        try:
            identity = self._test(instance)
            error, answers_again = self.record.spent, True
        except QuoteProviderError as caught:
            # A process that once failed to load its ID enclave asks PCCS for a platform that does not exist.
            made_up = self.record.spent if caught.code is AesmErrorCode.NO_PLATFORM_CERT_DATA else None
            error, answers_again = made_up or caught, made_up is not None
        if error is not None:
            self._tested = None
            spent = self.record.spent is not None and error.error_code != UNREACHABLE
            if self.policy.must_restart(instance, error, spent=spent, answers_again=answers_again) and instance:
                self._request_restart(instance, error)
            raise error
        self.policy.on_success()
        try:
            self.socket_path.with_name(REQUEST_FILE).unlink(missing_ok=True)
        except OSError as failed:
            _logger.warning("the request for aesmd's restart cannot be withdrawn", extra={"error": str(failed)})
        return identity

    def problem(self) -> NotReady | None:
        """Return a problem while the last quote for a client was not relayed: no self-test makes a quote."""
        rejected = self.provider.rejected
        return None if rejected is None else NotReady(str(rejected), code=rejected.error_code)

    def _test(self, instance: AesmdInstance | None) -> QuotingIdentity:
        lost, self.provider.lost = self.provider.lost, False
        known = self.tester.last_identity
        try:
            self.tester.supported_key_count()
        except QuoteProviderError as error:
            if error.error_code == NO_KEYS:
                self.tester.identity()  # its refusal tells why there are none: 38
            raise
        if known is not None and not lost and instance == self._tested and self.clock() < self._full_test_due:
            return known
        identity = run_hardware_self_test(self.tester)
        self._tested = instance
        self._full_test_due = self.clock() + FULL_TEST_SECONDS
        return identity

    def _request_restart(self, instance: AesmdInstance, error: QuoteProviderError) -> None:
        try:
            request_restart(self.socket_path, instance)
        except OSError as failed:
            _logger.warning("the request for aesmd's restart cannot be written", extra={"error": str(failed)})
        else:
            _logger.error("aesmd's restart is requested", extra={"error": str(error)})


def open_aesmd(
    socket_path: Path,
    *,
    expected_root: Path | None,
    hang_seconds: float = HANG_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Backend:
    """Return aesmd as a backend; it need not run yet. Without `expected_root`, quotes must end in Intel's root.

    Raises:
        SettingsError: the root cannot be read.
    """
    root = INTEL_ROOT if expected_root is None else read_expected_root(expected_root)
    _logger.info("quotes come from aesmd", extra={"socket": str(socket_path), "root": str(root)})
    if not root.is_intel:
        _logger.warning("TEST ROOT: quotes of this helper are never genuine", extra={"root": str(root)})
    record = AesmdRecord(socket_path)
    provider = AesmdQuoteProvider(socket_path, root, record)
    tester = AesmdQuoteProvider(socket_path, root, record, call_seconds=hang_seconds)
    self_test = AesmdSelfTest(tester, provider, record, socket_path, clock, RestartPolicy(clock))
    return Backend(
        provider,
        self_test,
        self_test_seconds=SELF_TEST_SECONDS,
        problem=self_test.problem,
        in_loop=provider.in_loop,
        instance=record.find,
    )
