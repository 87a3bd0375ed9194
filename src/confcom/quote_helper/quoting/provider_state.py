"""Whether quotes can be made: the provider is prepared, tested, lost and found again, and everybody can see it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from confcom.daemon.worker import WorkerPool
from confcom.quote_helper.limits import HelperLimits
from confcom.quote_helper.quoting.self_test import ReportMaker, run_self_test
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_provider.base import QuoteProvider, QuoteProviderError, QuotingIdentity

_logger = logging.getLogger(__name__)


class NotYetError(Exception):
    """The backend cannot be opened now, and may be later; the message says why."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a backend found about itself."""

    trouble: str = ""
    """Why the helper is not as it should be, though it makes quotes."""
    successor: Backend | None = None
    """What makes the quotes from now on."""


@dataclass(frozen=True, slots=True)
class Backend:
    """What makes the quotes, and an enclave on its platform that can make a report for the self-test."""

    provider: QuoteProvider
    make_report: ReportMaker
    root: str = ""
    """SHA-256 of the root certificate, in hex, if the platform has one of its own."""
    look: Callable[[], Outlook] | None = None
    """Looks whether it is still what is to make the quotes. It may block."""


class ProviderPhase(StrEnum):
    """Where the provider is in its life."""

    PREPARING = "preparing"
    """No quote was made yet."""
    READY = "ready"
    """The last self-test made a quote."""
    LOST = "lost"
    """Quotes were made, and the last self-test made none, or has not come back."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """Where the provider is, and why it is not ready, or not as it should be."""

    phase: ProviderPhase
    reason: str = ""

    @property
    def ready(self) -> bool:
        """Whether quotes can be made."""
        return self.phase is ProviderPhase.READY


class ProviderKeeper:
    """Opens the backend, and makes a whole quote for an enclave of the helper's own, again and again.

    The service has the provider exactly while the last self-test succeeded; what needs it waits otherwise.

    Args:
        open_backend: opens what makes the quotes. It may block.
        opened: told of the backend that is opened, and of each that takes its place.
        service: is given the provider.
        workers: where everything runs that may block.
        tested: told the identity after every self-test that made a quote, before `changed`.
        changed: told of every new status, also when only the reason is another.
        self_test_failed: told of every self-test that made no quote.
        limits: how often, how long.
    """

    def __init__(
        self,
        *,
        open_backend: Callable[[], Backend],
        opened: Callable[[Backend], None],
        service: QuoteService,
        workers: WorkerPool,
        tested: Callable[[QuotingIdentity], None],
        changed: Callable[[ProviderStatus], None],
        self_test_failed: Callable[[], None],
        limits: HelperLimits,
    ) -> None:
        self._open_backend = open_backend
        self._opened = opened
        self._service = service
        self._workers = workers
        self._tested = tested
        self._changed = changed
        self._self_test_failed = self_test_failed
        self._limits = limits
        self._backend: Backend | None = None
        self._provided: QuoteProvider | None = None
        self._trouble = ""
        self.status = ProviderStatus(ProviderPhase.PREPARING, "the quote provider is being prepared")
        self.ready = asyncio.Event()
        """Set while the status is READY."""

    async def run(self) -> None:
        """Keep looking until cancelled.

        Raises:
            ConfcomError: the backend cannot be opened.
        """
        backend = self._backend = await self._open()
        self._opened(backend)
        failures = 0
        while True:
            backend = await self._look(backend)
            reason = await self._self_test(backend)
            if reason is None:
                failures = 0
                self._found_working(backend)
                await asyncio.sleep(self._limits.self_test_interval_seconds)
            else:
                self._self_test_failed()
                self._found_failing(reason)
                waits = self._limits.self_test_retry_seconds
                await asyncio.sleep(waits[min(failures, len(waits) - 1)])
                failures += 1

    async def close(self) -> None:
        """Release the provider; one that hangs is left behind."""
        if self._backend is not None:
            closing = self._workers.submit(self._backend.provider.close)
            try:
                async with asyncio.timeout(self._limits.close_seconds):
                    await closing
            except TimeoutError:
                _logger.warning("the quote provider does not end; it is left behind")
            except Exception:
                _logger.exception("the quote provider could not be closed")
        self._workers.close()

    async def _open(self) -> Backend:
        while True:
            try:
                return await self._workers.submit(self._open_backend)
            except NotYetError as error:
                _logger.warning("no quotes can be made yet: %s", error)
                self._found_failing(str(error))
                await asyncio.sleep(self._limits.reopen_seconds)

    async def _look(self, backend: Backend) -> Backend:
        """The backend that is to make the quotes from now on."""
        if backend.look is None:
            return backend
        outlook = await self._workers.submit(backend.look)
        self._trouble = outlook.trouble
        if outlook.trouble:
            _logger.warning("%s", outlook.trouble)  # each time: `confcom status` shows the end of the log
        if outlook.successor is None:
            return backend
        self._backend = outlook.successor
        return outlook.successor

    async def _self_test(self, backend: Backend) -> str | None:
        """Why no quote can be made, or None."""
        try:
            if self.status.ready and not backend.provider.blocking:
                # It is the event loop's own now, and no thread may use it beside.
                identity = run_self_test(backend.provider, backend.make_report)
            else:
                identity = await self._self_test_beside(backend)
        except QuoteProviderError as error:
            _logger.warning("no quote can be made", extra={"error": str(error), "code": error.code.name})
            return str(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic in Rust is no Exception (pyo3)
            _logger.exception("the self-test failed in an unexpected way")
            return f"the self-test failed: {type(error).__name__}"
        self._tested(identity)
        return None

    async def _self_test_beside(self, backend: Backend) -> QuotingIdentity:
        call = self._workers.submit(lambda: run_self_test(backend.provider, backend.make_report))
        # Seen by somebody, even when the helper stops meanwhile: asyncio would log it, with its traceback, at the end.
        call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        done, _ = await asyncio.wait({call}, timeout=self._limits.self_test_seconds)
        if not done:
            self._found_failing(f"the quote provider hangs: no quote within {self._limits.self_test_seconds:g} s")
            # A second one would hang too, and take another thread.
            await asyncio.wait({call})
        return call.result()

    def _found_working(self, backend: Backend) -> None:
        provider = backend.provider
        before = self.status.phase
        status = ProviderStatus(ProviderPhase.READY, self._trouble)
        if self.status != status:
            self._set(status)
        if before is ProviderPhase.READY and provider is self._provided:
            return
        self.ready.set()
        self._service.provide(provider)
        if self._provided not in {None, provider}:
            self._opened(backend)
            _logger.info("quotes are made by another platform from now on", extra={"root": backend.root})
        self._provided = provider
        if before is ProviderPhase.READY:
            return
        message = "the quote provider is back" if before is ProviderPhase.LOST else "ready: a whole quote was made"
        _logger.info(message, extra={"provider": provider.name})

    def _found_failing(self, reason: str) -> None:
        was_ready = self.status.ready
        phase = ProviderPhase.LOST if was_ready else self.status.phase
        self._set(ProviderStatus(phase, reason))
        if was_ready:
            self.ready.clear()
            self._service.withdraw()
            _logger.error("the quote provider was lost", extra={"reason": reason})

    def _set(self, status: ProviderStatus) -> None:
        self.status = status
        self._changed(status)
