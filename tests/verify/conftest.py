"""One simulated platform for the whole session: making it costs more than verifying its quotes."""

from __future__ import annotations

import pytest

from testkit.verify.verify_lab import Evidence, Lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def evidence(lab: Lab) -> Evidence:
    """Untouched, and accepted by every verifier."""
    return lab.evidence()
