"""Intel's aesmd on a private socket as a backend. Imported on demand, as every kind of backend."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confcom.quote_helper.quoting.provider_state import Backend
from confcom.quote_helper.quoting.restart_request import RestartPolicy, request_restart
from confcom.quote_helper.quoting.self_test import run_hardware_self_test
from confcom.quote_provider.aesmd import AesmdQuoteProvider
from confcom.quote_provider.base import QuoteProviderError, QuotingIdentity
from confcom.quote_provider.expected_root import INTEL_ROOT, read_expected_root

_logger = logging.getLogger(__name__)

SELF_TEST_CALL_SECONDS: Final = 60.0
"""For one call of the self-test, after which aesmd counts as hung and is restarted. It is twice what a client's call
gets, since calls are serial in aesmd, and the self-test may wait behind two of them."""


def open_aesmd(
    socket_path: Path,
    *,
    expected_root: Path | None,
    call_seconds: float = SELF_TEST_CALL_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Backend:
    """Return aesmd as a backend; it need not run yet.

    Args:
        socket_path: aesmd's private socket.
        expected_root: a file with a root certificate for tests; None: Intel's root.
        call_seconds: deadline of one call of the self-test.
        clock: monotonic seconds.

    Raises:
        SettingsError: the root cannot be read.
    """
    root = INTEL_ROOT if expected_root is None else read_expected_root(expected_root)
    _logger.info("quotes come from aesmd", extra={"socket": str(socket_path), "root": str(root)})
    if not root.is_intel:
        _logger.warning("TEST ROOT: quotes of this helper are never genuine", extra={"root": str(root)})
    tester = AesmdQuoteProvider(socket_path, root, call_seconds=call_seconds)
    self_test = AesmdSelfTest(tester, socket_path, clock)
    return Backend(AesmdQuoteProvider(socket_path, root), self_test, tells_cause=True)


class AesmdSelfTest:
    """The self-test of aesmd, which asks for its restart where only that helps.

    Args:
        provider: a provider of the self-test's own, with a longer deadline than that of clients.
        socket_path: aesmd's socket; the request for a restart is written beside it.
        clock: monotonic seconds.
    """

    def __init__(self, provider: AesmdQuoteProvider, socket_path: Path, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._socket_path = socket_path
        self._policy = RestartPolicy(clock)

    def __call__(self) -> QuotingIdentity:
        """Run the self-test.

        Raises:
            QuoteProviderError: aesmd makes no quotes.
        """
        try:
            self._provider.require_other_process()
            self._provider.supported_key_count()
            identity = run_hardware_self_test(self._provider)
        except QuoteProviderError as error:
            if self._policy.must_restart(error):
                self._request_restart(error)
            raise
        self._policy.on_success()
        return identity

    def _request_restart(self, error: QuoteProviderError) -> None:
        try:
            request_restart(self._socket_path)
        except OSError as failed:
            _logger.warning("aesmd must be restarted, and the request cannot be written", extra={"error": str(failed)})
        else:
            _logger.error("aesmd must be restarted: only that helps", extra={"error": str(error)})
