"""Supervision of the quote provider: open its backend, test it periodically, and report whether it can quote."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from confcom.aesm.error_code import AesmErrorCode
from confcom.aesm.messages import QuotingTarget
from confcom.daemon.readiness_log import NotReady
from confcom.quote_helper.limits_and_deadlines import HelperLimits
from confcom.quote_helper.quoting.service import QuoteService
from confcom.quote_helper.quoting.stale_target import StaleTargetPolicy
from confcom.quote_helper.worker_thread import in_worker_thread
from confcom.quote_provider.base import Backend, QuoteProviderError

_logger = logging.getLogger(__name__)

PREPARING: Final = NotReady("the quote provider is being prepared", code="provider-preparing")
_SOON_OVER: Final = frozenset({AesmErrorCode.SERVICE_UNAVAILABLE, AesmErrorCode.ENCLAVE_LOST, AesmErrorCode.BUSY})


@dataclass(frozen=True, slots=True)
class Failure:
    """The cause of a failed self-test or call, and the code of refusals; without a code, requests wait."""

    problem: NotReady
    refusal: AesmErrorCode | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class ProviderSupervisor:
    """Opens the backend, and runs the backend's self-test periodically.

    The service has the provider only if the last self-test succeeded; otherwise requests wait or fail.
    `changed` is called when `ready` or `problem` may have changed, `lost` when a working provider was lost.
    """

    open_backend: Callable[[], Backend]
    service: QuoteService[Any]
    stale: StaleTargetPolicy
    changed: Callable[[], None]
    lost: Callable[[], None]
    limits: HelperLimits
    ready: bool = field(init=False, default=False)
    problem: NotReady | None = field(init=False, default=PREPARING)
    """The reason why no quotes can be made, or why aesmd's quotes are not relayed; None if all is well."""
    _wake: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _losses: int = field(init=False, default=0)

    async def run(self) -> None:
        backend = await in_worker_thread(self.open_backend)
        failures, instance = 0, backend.instance()
        while True:
            losses, previous, instance = self._losses, instance, backend.instance()
            if not self.ready and instance not in (None, previous):
                self._on_failure(Failure(PREPARING))  # the failures so far were those of another instance
            failure = await self._self_test(backend)
            if failure is None and losses != self._losses:
                continue  # a client's call found the provider lost while the self-test was running
            if failure is None:
                self._on_success(backend)
                failures = 0
                await self._wait(backend, instance, self.limits.self_test_interval_seconds)
            else:
                self._on_failure(failure)
                waits = self.limits.self_test_retry_seconds
                await self._wait(backend, instance, waits[min(failures, len(waits) - 1)])
                failures = failures + 1 if instance == backend.instance() else 0

    def _on_lost(self, error: QuoteProviderError) -> None:
        self._losses += 1
        if self.ready:
            self._on_failure(self._failure_of(error))
            self._wake.set()

    def _failure_of(self, error: QuoteProviderError) -> Failure:
        """Return the failure for an error; requests wait if the outage may end before their deadline."""
        waits = error.code in _SOON_OVER and error.outage_seconds < self.limits.provider_wait_seconds
        return Failure(NotReady(str(error), code=error.error_code), None if waits else error.code)

    async def _wait(self, backend: Backend, instance: object, seconds: float) -> None:
        """Wait for the next self-test; stop waiting if the provider is lost or has a new instance.

        A client's call that is refused or requires a test also ends the wait, after the shortest pause between tests.
        """
        self._wake.clear()
        loop = asyncio.get_running_loop()
        due, earliest = loop.time() + seconds, loop.time() + self.limits.self_test_retry_seconds[0]
        while not self._wake.is_set() and backend.instance() == instance and (now := loop.time()) < due:
            if now >= earliest and (backend.doubted() or self.service.refused):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(due - now, self.limits.socket_tick_seconds)):
                    await self._wake.wait()

    async def _self_test(self, backend: Backend) -> Failure | None:
        self.service.refused = False
        try:
            if self.ready and backend.in_loop is None:
                # The event loop uses this provider for clients now, so no other thread may use it.
                identity = backend.self_test()
            else:
                identity = await self._self_test_in_worker(backend)
        except QuoteProviderError as error:
            return self._failure_of(error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic in Rust is not an Exception (pyo3)
            _logger.exception("the self-test failed unexpectedly")
            return Failure(NotReady(f"the self-test failed: {type(error).__name__}", code="self-test-failed"))
        self.stale.quotes_for(identity.target_info.encode())
        return None

    async def _self_test_in_worker(self, backend: Backend) -> QuotingTarget:
        call = in_worker_thread(backend.self_test)
        # Retrieve the exception even if the helper stops meanwhile; otherwise asyncio logs a traceback.
        call.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        seconds = backend.self_test_seconds or self.limits.self_test_seconds
        done, _ = await asyncio.wait({call}, timeout=seconds)
        if not done:
            hangs = f"the quote provider hangs: no quote within {seconds:g} s; it waits for {backend.waits_for}"
            self._on_failure(Failure(NotReady(hangs, code="provider-hangs")))
            # Wait for the hanging self-test; a second self-test would only make another thread hang.
            await asyncio.wait({call})
        return call.result()

    def _on_success(self, backend: Backend) -> None:
        if not self.ready:
            self.service.provide(backend.provider, backend.in_loop, self._on_lost)
        problem = backend.problem()
        if not self.ready or problem != self.problem:
            self.ready, self.problem = True, problem
            self.changed()

    def _on_failure(self, failure: Failure) -> None:
        if self.ready:
            self.lost()
        self.ready, self.problem = False, failure.problem
        self.changed()
        self.service.withdraw(failure.refusal)
