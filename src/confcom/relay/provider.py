"""A quote provider that relays to an unmodified aesmd of Intel's on a private socket.

Only InitQuoteEx, GetQuoteSizeEx and GetQuoteEx are relayed; the quote helper answers the other calls itself.
aesmd makes one call at a time, each call may wait for PCCS, and a crash leaves aesmd's socket file behind.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from cryptography import x509

from confcom.aesm import conversation
from confcom.aesm.conversation import Conversation
from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.errors import AesmError, ConnectionClosedError
from confcom.aesm.messages import AesmQuote, MessageKind, QuotingTarget
from confcom.aesm.request_checks import Need, NeedIdentity, NeedQuote, NeedQuoteSize
from confcom.client.asynchronous import Outcome, RunningConversation
from confcom.client.blocking import AesmClient
from confcom.client.errors import ServiceTimeoutError
from confcom.errors import ConfcomError, MalformedError
from confcom.quote_provider.base import WRONG_SERVICE, QuoteProviderError
from confcom.quote_provider.expected_root import ExpectedRoot
from confcom.quote_provider.quote_checks import OTHER_ENCLAVE, OTHER_KEY, WRONG_SIZE, QuoteChecker
from confcom.relay.advice import NO_ANSWER, READ_LOG, REMEDIES
from confcom.relay.instance import AesmdRun, AesmdRuns
from confcom.sgx.report import QeReportInfo, Report

T = TypeVar("T")

CALL_SECONDS: Final = 30.0
"""Time limit of a client's request. It is twice the 15 s of Intel's client, as others may be served first."""
HANGS: Final = "aesmd-hangs"
"""Error code for a call that did not return in time, if aesmd answered no other call meanwhile."""
UNREACHABLE: Final = "aesmd-unreachable"
"""Error code for a socket that does not exist, or that no process serves."""

_ENDED_BY_INIT: Final = frozenset({AesmErrorCode.ATT_KEY_NOT_INITIALIZED, AesmErrorCode.PARAMETER_ERROR})
"""Codes of refusals that InitQuoteEx or GetQuoteSizeEx may cure: no key yet, or a changed quote size."""
_ENDED_BY_IDENTITY: Final = frozenset({OTHER_KEY, OTHER_ENCLAVE, WRONG_SIZE})
"""Error codes for quotes that do not match the earlier answers to InitQuoteEx and GetQuoteSizeEx."""
_QUOTING_CALLS: Final = frozenset(
    kind.call for kind in (MessageKind.INIT_QUOTE_EX, MessageKind.GET_QUOTE_SIZE_EX, MessageKind.GET_QUOTE_EX)
)
_ENDED_BY_RESTART: Final = frozenset(
    {AesmErrorCode.ENCLAVE_LOST, AesmErrorCode.SERVICE_UNAVAILABLE, AesmErrorCode.UNSUPPORTED_ATT_KEY_ID}
)
"""Refusals of quoting calls that only a restart ends: aesmd never reloads a lost enclave, or a quoting enclave or
plug-in that was missing at its start; a stopping aesmd also refuses some requests with 30."""
_SUSPICIOUS: Final = frozenset(
    {AesmErrorCode.UNEXPECTED_ERROR, AesmErrorCode.OUT_OF_EPC, AesmErrorCode.ENCLAVE_LOAD_ERROR}
)
"""Codes which, before a run's first successful InitQuoteEx, may mean that the ID enclave was not loaded."""
_EXPLAINED_BY_SELF_TEST: Final = frozenset(
    {
        AesmErrorCode.UNEXPECTED_ERROR,
        AesmErrorCode.NETWORK_ERROR,
        AesmErrorCode.OUT_OF_EPC,
        AesmErrorCode.ATT_KEY_CERT_DATA_INVALID,
        AesmErrorCode.NO_PLATFORM_CERT_DATA,
    }
)
"""Codes of refusals that every client may get. After one of these refusals, the next self-test runs early."""


class AesmdQuoteProvider:
    """A QuoteProvider, and the CallsInLoop for clients, that relay calls to an aesmd, and check every answer."""

    max_concurrent_calls: Final = 2
    """aesmd makes one quote at a time. A second request waits in aesmd's socket, so that aesmd is never idle."""

    def __init__(
        self,
        socket_path: Path,
        root: ExpectedRoot,
        runs: AesmdRuns,
        *,
        call_seconds: float = CALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        on_pck: Callable[[x509.Certificate], None] = lambda _: None,
    ) -> None:
        self._client = AesmClient(socket_path, timeout=call_seconds)
        self._runs = runs
        self._clock = clock
        self._checker = QuoteChecker(root, on_pck)
        self._answered_at = clock()
        self._running: set[RunningConversation] = set()
        self.last_identity: QuotingTarget | None = None
        self.last_quote_size = 0
        self.rejected: QuoteProviderError | None = None  # why the last quote was not relayed
        self.doubted = False
        """Whether a call failed in a way that the self-test must examine; the self-test sets it to False."""

    def identity(self) -> QuotingTarget:
        return self._run(self._init())

    def quote_size(self) -> int:
        return self._run(self._renewed_size())

    def quote(self, report: Report, qe_report_info: QeReportInfo | None) -> AesmQuote:
        """Get a quote, after another InitQuoteEx if aesmd requires this (since it restarted or renewed a certificate).

        The client notices that InitQuoteEx only if target info or key have changed, and then gets code 42.
        """
        return self._run(self._renewed_quote(report, qe_report_info))

    def start(self, need: Need, done: Callable[[Outcome], None]) -> None:
        def end(running: RunningConversation, outcome: Outcome) -> None:
            self._running.discard(running)
            done(outcome)

        running = RunningConversation(self._client, self._conversation_for(need), end, whole=True)
        self._running.add(running)
        running.start()

    def close(self) -> None:
        for running in self._running:
            running.stop()
        self._running.clear()

    def supported_key_count(self) -> int:
        """Return how many attestation keys aesmd has; without a quoting enclave, aesmd refuses the call."""
        return len(self._run(self._ask(conversation.supported_key_ids())))

    def _run(self, asked: Conversation[T]) -> T:
        return self._client.converse(asked, whole=True)

    def _conversation_for(self, need: Need) -> Conversation[Any]:
        match need:
            case NeedQuote():
                return self._renewed_quote(need.report, need.qe_report_info)
            case NeedIdentity():
                return self._init()
            case NeedQuoteSize():
                return self._renewed_size()

    def _renewed_size(self) -> Conversation[int]:
        try:
            return (yield from self._get_size())
        except QuoteProviderError as error:
            if not self._may_renew(error):
                raise
            reason = error
        with self._renewing(reason):
            yield from self._init()
            return (yield from self._get_size())

    def _renewed_quote(self, report: Report, qe_report_info: QeReportInfo | None) -> Conversation[AesmQuote]:
        identity = self.last_identity or (yield from self._init())
        try:
            size = self.last_quote_size or (yield from self._get_size())
            return (yield from self._quote(report, qe_report_info, identity, size))
        except QuoteProviderError as error:
            if error.error_code not in _ENDED_BY_IDENTITY and not self._may_renew(error):
                raise
            reason = error
        with self._renewing(reason):
            renewed = yield from self._init()
            # OTHER_ENCLAVE: aesmd accepted the report, so the report is for the enclave that now runs.
            if renewed == identity or reason.error_code == OTHER_ENCLAVE:
                size = yield from self._get_size()
                return (yield from self._quote(report, qe_report_info, renewed, size))
        raise QuoteProviderError(
            AesmErrorCode.ATT_KEY_NOT_INITIALIZED,
            "the quoting enclave or its key has changed",
            why="aesmd gave another target info or key than before",
            remedy="clients call InitQuoteEx again and make another report",
        ) from reason

    def _may_renew(self, error: QuoteProviderError) -> bool:
        run = self._runs.current()
        return error.code in _ENDED_BY_INIT and (run is None or error.code not in run.lasting)

    @contextlib.contextmanager
    def _renewing(self, reason: QuoteProviderError) -> Iterator[None]:
        """Record that InitQuoteEx did not end a refusal; otherwise each request would cause four calls."""
        try:
            yield
        except QuoteProviderError as error:
            if error.code is reason.code and error.code in _ENDED_BY_INIT and self._runs.last is not None:
                self._runs.last.lasting.add(error.code)
                self.doubted = True
            raise

    def _init(self) -> Conversation[QuotingTarget]:
        run = self._runs.current()  # the answer may show that this run has failed
        try:
            identity = yield from self._ask(conversation.init_quote())
        except QuoteProviderError as error:
            if run is not None and not run.initialised and error.code in _SUSPICIOUS and error is not self.rejected:
                yield from self._judge(run, error)
            raise
        if run is not None:
            run.initialised = True
        self.last_identity = identity
        return identity

    def _judge(self, run: AesmdRun, refusal: QuoteProviderError) -> Conversation[None]:
        """Ask GetQuoteSizeEx why the first InitQuoteEx of a run was refused (measured with Intel's code).

        If PCCS refuses or the PCE was not loaded, GetQuoteSizeEx also returns 1 or 29. If the ID enclave was not
        loaded, GetQuoteSizeEx returns 42; then InitQuoteEx succeeds, but quotes carry an uninitialised QE id. The code
        is also 42 if a certificate's TCB is above the PCE's, or if PCCS recovers meanwhile. Both cost a restart.
        """
        try:
            yield from self._ask(conversation.quote_size())
        except QuoteProviderError as error:
            if error.code is not AesmErrorCode.ATT_KEY_NOT_INITIALIZED and not error.lost:
                return
        self._runs.fail(run, refusal)

    def _get_size(self) -> Conversation[int]:
        size = yield from self._ask(conversation.quote_size())
        self._checker.check_size(size)
        self.last_quote_size = size
        return size

    def _quote(
        self, report: Report, qe_report_info: QeReportInfo | None, identity: QuotingTarget, size: int
    ) -> Conversation[AesmQuote]:
        response = yield from self._ask(conversation.request_quote(size, report, qe_report_info))
        quote = response.quote or b""
        try:
            if self._checker.passes(quote, report.encoded_body, size=size, identity=identity):
                made = AesmQuote(quote, conversation.qe_report_in(response, qe_report_info, quote))
            else:
                made = conversation.quote_in(response, report, qe_report_info)
                self._checker.check(made.quote, size=size, identity=identity)
        except MalformedError as error:
            raise self._malformed(error) from error
        except QuoteProviderError as error:
            self.rejected, self.doubted = error, True
            raise
        self.rejected = None
        return made

    def _ask(self, asked: Conversation[T]) -> Conversation[T]:
        began, run = self._clock(), self._runs.last
        try:
            result = yield from asked
        except AesmError as error:
            self._answered_at = self._clock()
            raise self._refused(error, run) from error
        except ServiceTimeoutError as error:
            why = f"a call did not return within {self._client.timeout:g} s"
            if self._answered_at > began:
                raise QuoteProviderError(
                    AesmErrorCode.BUSY, "aesmd is slow", error_code="aesmd-slow", why=why, remedy=NO_ANSWER
                ) from error
            raise self._lost(why, error_code=HANGS) from error
        except ConnectionClosedError as error:
            raise self._lost("it closed the connection without an answer", error_code="aesmd-closed") from error
        except MalformedError as error:
            raise self._malformed(error) from error
        except ConfcomError as error:
            raise self._lost(f"{error.what} ({error.error_code})", error_code=UNREACHABLE) from error
        self._answered_at = self._clock()
        return result

    def _malformed(self, error: MalformedError) -> QuoteProviderError:
        self.doubted = True
        self.rejected = QuoteProviderError(
            AesmErrorCode.UNEXPECTED_ERROR,
            "aesmd gave an answer that is not relayed",
            error_code="aesmd-malformed",
            why=error.what,
            remedy=WRONG_SERVICE,
        )
        return self.rejected

    def _lost(self, why: str, *, error_code: str) -> QuoteProviderError:
        self.doubted = True
        return QuoteProviderError(
            AesmErrorCode.SERVICE_UNAVAILABLE,
            "aesmd makes no quotes",
            error_code=error_code,
            why=why,
            remedy=NO_ANSWER if error_code == HANGS else READ_LOG,
            lost=True,
        )

    def _refused(self, error: AesmError, run: AesmdRun | None) -> QuoteProviderError:
        try:
            code = AesmErrorCode(error.code)
        except ValueError:
            code = AesmErrorCode.UNEXPECTED_ERROR
        remedy = REMEDIES.get(code, READ_LOG)
        refusal = QuoteProviderError(code, error.what, error_code=error.error_code, why=error.why, remedy=remedy)
        if error.call in _QUOTING_CALLS and code in _ENDED_BY_RESTART:
            self._runs.fail(run, refusal)
        self.doubted = self.doubted or refusal.lost or code in _EXPLAINED_BY_SELF_TEST
        return refusal
