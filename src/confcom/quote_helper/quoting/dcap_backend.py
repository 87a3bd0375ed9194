"""Intel's DCAP libraries in a child process as a backend (experimental). Imported on demand, as all backends."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confcom.quote_helper.quoting.last_quote import anatomy_of
from confcom.quote_helper.quoting.provider_state import Backend, check_of_quotes
from confcom.quote_helper.quoting.self_test import run_hardware_self_test
from confcom.quote_provider.dcap.provider import QUOTE_REMEDY, DcapQuoteProvider
from confcom.quote_provider.expected_root import INTEL_ROOT, read_expected_root

_logger = logging.getLogger(__name__)

SELF_TEST_SECONDS: Final = 45.0
"""For one self-test, after which no requests are served until it has passed: each of its calls may ask PCCS."""


def open_dcap(library_dir: Path | None, *, expected_root: Path | None, environ: Mapping[str, str]) -> Backend:
    """Return the libraries as a backend; the self-test starts the first child.

    Clients and self-test share one provider: it kills a child that hangs, so that the self-test needs no deadline of
    its own.

    Args:
        library_dir: where the dynamic linker looks for Intel's libraries first; None: its usual places.
        expected_root: a file with a root certificate for tests; None: Intel's root.
        environ: the environment of this process.

    Raises:
        SettingsError: the root cannot be read.
    """
    root = INTEL_ROOT if expected_root is None else read_expected_root(expected_root)
    where = "the dynamic linker's places" if library_dir is None else str(library_dir)
    _logger.warning(
        "EXPERIMENTAL: quotes come from Intel's DCAP libraries", extra={"libraries": where, "root": str(root)}
    )
    if not root.is_intel:
        _logger.warning("TEST ROOT: quotes of this helper are never genuine", extra={"root": str(root)})
    provider = DcapQuoteProvider.by_child(root, environ=environ, library_dir=library_dir)
    return Backend(
        provider,
        lambda: run_hardware_self_test(provider, remedy=QUOTE_REMEDY),
        self_test_seconds=SELF_TEST_SECONDS,
        tells_cause=True,
        check=lambda: check_of_quotes(provider.rejected),
        last_quote=lambda: anatomy_of(provider.last_quote),
    )
