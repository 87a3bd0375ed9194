"""A quote provider that makes quotes by Intel's DCAP libraries in a child process (experimental)."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Self, TypeVar

from confcom.aesm.error_code import AesmErrorCode
from confcom.daemon.logs import LogLimiter
from confcom.errors import MalformedError
from confcom.quote_provider.base import Expiring, QuoteProviderError, QuoteResult, QuotingIdentity
from confcom.quote_provider.dcap.captured_lines import CapturedLines
from confcom.quote_provider.dcap.child_keeper import RESTART_PAUSES, ChildKeeper
from confcom.quote_provider.dcap.child_process import ChildProcess
from confcom.quote_provider.dcap.frames import MAX_QUOTE_SIZE, Call, Request
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.quote_provider.quote_checks import OTHER_KEY, WRONG_SIZE, QuoteChecker
from confcom.sgx.quote import REPORT_BODY
from confcom.sgx.report import REPORT_BODY_SIZE, QeReportInfo, Report, ReportBody, TargetInfo

_logger = logging.getLogger(__name__)

T = TypeVar("T")

CALL_SECONDS: Final = 30.0
"""For a client's call with all calls of the library that it needs; then the child is killed. The library waits for PCCS
without a limit. It is twice what Intel's client waits, and less than the minute that a helper gives a request."""
CONCURRENT_CALLS: Final = 1
"""The libraries make one call at a time, and further ones would only wait for their lock. They wait better in the
helper's fair turns, where the loss of a child takes none of them along. The child is idle between two calls for the
helper's part of a call, which is small beside the library's."""
CLOSE_SECONDS: Final = 1.0
"""For a call to notice that its child was killed. A child that is just being started ends by itself after that."""
REFUSALS_LOG_SECONDS: Final = 10.0
"""At most one line in this time about calls that the library refused: any client can cause them."""

LIBRARY_REMEDY: Final = (
    "install the quote provider library (libdcap_quoteprov.so.1) where the helper loads Intel's libraries, and check "
    "that its configuration, sgx_default_qcnl.conf, is valid JSON"
)
QUOTE_REMEDY: Final = "check that the DCAP libraries and enclaves of the helper are Intel's, all of one release"

_RETRIED: Final = frozenset(
    {
        AesmErrorCode.ATT_KEY_NOT_INITIALIZED,
        AesmErrorCode.PARAMETER_ERROR,
        AesmErrorCode.ENCLAVE_LOST,
    }
)
"""Refusals that another init may end: no attestation key yet, another size of quotes, a lost enclave."""
_CLIENTS_FAULT: Final = frozenset({AesmErrorCode.INVALID_REPORT})


class DcapQuoteProvider:
    """A QuoteProvider by Intel's DCAP libraries; it checks every answer.

    Args:
        keeper: makes the calls.
        root: the root in which the chain of every quote must end.
        call_seconds: deadline of one call of this provider.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        keeper: ChildKeeper,
        root: ExpectedRoot,
        *,
        call_seconds: float = CALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._checker = QuoteChecker(root, library_remedy=LIBRARY_REMEDY, service_remedy=QUOTE_REMEDY)
        self._call_seconds = call_seconds
        self._clock = clock
        self._refusals = LogLimiter(REFUSALS_LOG_SECONDS, clock)
        self._one_at_a_time = threading.Lock()
        """The self-test comes from another thread than clients' calls."""
        self._identity: QuotingIdentity | None = None
        self._size = 0
        self.rejected: QuoteProviderError | None = None
        """Why the last quote was not given to a client; None if it was."""
        self.last_quote = b""
        """The last quote that the libraries made, of at most MAX_QUOTE_SIZE bytes; empty: none yet."""

    @classmethod
    def by_child(
        cls,
        root: ExpectedRoot,
        *,
        environ: Mapping[str, str],
        library_dir: Path | None = None,
        call_seconds: float = CALL_SECONDS,
        pauses: Sequence[float] = RESTART_PAUSES,
    ) -> Self:
        """Return a provider that starts a child for its first call.

        Args:
            root: as for the class.
            environ: the environment of this process.
            library_dir: where the dynamic linker looks for Intel's libraries first; None: its usual places.
            call_seconds: as for the class.
            pauses: before the child is started again.
        """
        clock = time.monotonic
        lines = CapturedLines(clock)
        keeper = ChildKeeper(lambda: ChildProcess.start(environ, library_dir, lines), clock=clock, pauses=pauses)
        return cls(keeper, root, call_seconds=call_seconds, clock=clock)

    @property
    def name(self) -> str:
        """Name for logs and metrics."""
        return "dcap"

    @property
    def blocking(self) -> bool:
        """True: a call waits for the child, and that for PCCS."""
        return True

    @property
    def max_concurrent_calls(self) -> int:
        """Maximum number of concurrent calls."""
        return CONCURRENT_CALLS

    @property
    def last_identity(self) -> QuotingIdentity | None:
        """The identity that the library gave last."""
        return self._identity

    @property
    def last_quote_size(self) -> int:
        """The size that the library gave last; 0 before the first."""
        return self._size

    def identity(self) -> QuotingIdentity:
        """Return the quoting enclave's target info and the attestation key's id."""
        with self._call() as deadline:
            return self._init(deadline)

    def quote_size(self) -> int:
        """Return the size of the next quote in bytes."""
        with self._call() as deadline:
            return self._renewing(lambda _: self._get_size(deadline), deadline)

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> QuoteResult:
        """Get a quote, and check it.

        A new child, or a certificate that was renewed, wants an init first. The client need not know as long as target
        info and key stay the same.
        """
        with self._call() as deadline:
            return self._renewing(
                lambda identity: self._get_quote(report, qe_report_info, identity, deadline), deadline
            )

    def expiries(self, now: datetime) -> Mapping[Expiring, datetime]:  # noqa: ARG002
        """Return nothing: the provider knows the certificates only from the quotes."""
        return {}

    def close(self) -> None:
        """End the child, also during a call."""
        self._keeper.interrupt()
        if self._one_at_a_time.acquire(timeout=CLOSE_SECONDS):
            try:
                self._keeper.close()
            finally:
                self._one_at_a_time.release()

    @contextmanager
    def _call(self) -> Iterator[float]:
        """Wait for the turn of a call, and yield its deadline."""
        with self._one_at_a_time:
            try:
                self._keeper.prepare()
                yield self._clock() + self._call_seconds
            except QuoteProviderError as error:
                if error.code not in _CLIENTS_FAULT and not error.lost:
                    self._log(error)
                raise

    def _log(self, error: QuoteProviderError) -> None:
        suppressed = self._refusals.admit()
        if suppressed is not None:
            _logger.warning("no quote", extra={"error": str(error), "code": error.code.name, "suppressed": suppressed})

    def _renewing(self, call: Callable[[QuotingIdentity], T], deadline: float) -> T:
        """Make a call; make it again after an init if that may help, and the client's report still fits."""
        identity = self._identity or self._init(deadline)
        try:
            return call(identity)
        except QuoteProviderError as error:
            if error.code not in _RETRIED and error.error_code not in {OTHER_KEY, WRONG_SIZE}:
                raise
            self._size = 0
            if self._init(deadline) != identity:
                raise QuoteProviderError(
                    AesmErrorCode.ATT_KEY_NOT_INITIALIZED,
                    "the quoting enclave changed",
                    why="its target info or its key differs from that of the last InitQuoteEx",
                    remedy="call InitQuoteEx again and make a new report",
                ) from error
            return call(identity)

    def _init(self, deadline: float) -> QuotingIdentity:
        answer = self._keeper.call(Request(Call.INIT), deadline)
        try:
            target_info = TargetInfo.parse(answer.target_info)
        except MalformedError as error:
            raise _malformed(error.what) from error
        self._identity = QuotingIdentity(target_info, answer.pub_key_id)
        return self._identity

    def _get_size(self, deadline: float) -> int:
        size = self._keeper.call(Request(Call.SIZE), deadline).size
        self._checker.check_size(size)
        if not 0 < size <= MAX_QUOTE_SIZE:
            raise _malformed(f"a quote would have {size} bytes")
        self._size = size
        return size

    def _get_quote(
        self, report: Report, requested: QeReportInfo | None, identity: QuotingIdentity, deadline: float
    ) -> QuoteResult:
        size = self._size or self._get_size(deadline)
        encoded = None if requested is None else requested.encode()
        answer = self._keeper.call(Request(Call.QUOTE, size, report.encode(), encoded), deadline)
        self.last_quote = answer.quote[:MAX_QUOTE_SIZE]
        try:
            if not self._checker.passes(answer.quote, report.encoded_body, size=size, identity=identity):
                self._checker.check(answer.quote, size=size, identity=identity)
                if answer.quote[REPORT_BODY] != report.encoded_body:
                    raise _malformed("the quote is of another report")
        except QuoteProviderError as error:
            self.rejected = error
            raise
        self.rejected = None
        if requested is None:
            return QuoteResult(answer.quote, None)
        returned = QeReportInfo.parse(answer.qe_report_info)
        _check_qe_report(requested, returned, answer.quote)
        return QuoteResult(answer.quote, returned)


def _check_qe_report(requested: QeReportInfo, returned: QeReportInfo, quote: bytes) -> None:
    """Check nonce, target info and quote hash of a QE report; only the enclave can verify its MAC."""
    if (returned.nonce, returned.app_enclave_target_info) != (requested.nonce, requested.app_enclave_target_info):
        raise _malformed("the QE report is for another nonce or enclave")
    body = ReportBody.parse(returned.qe_report[:REPORT_BODY_SIZE])
    if body.report_data != hashlib.sha256(requested.nonce + quote).digest() + bytes(32):
        raise _malformed("the QE report is over another quote")


def _malformed(why: str) -> QuoteProviderError:
    return QuoteProviderError(
        AesmErrorCode.UNEXPECTED_ERROR,
        "Intel's DCAP libraries gave an answer that clients do not get",
        error_code="dcap-malformed",
        why=why,
        remedy=QUOTE_REMEDY,
    )
