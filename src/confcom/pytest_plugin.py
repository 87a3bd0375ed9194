"""The pytest plugin with the fixture `attestation`; `confcom.testing` is imported when a test uses the fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from confcom.testing.attestation import Attestation


@pytest.fixture(scope="session")
def attestation() -> Attestation:
    """Return an object that makes quotes under a simulated root, which is new in each test run."""
    from confcom.testing.attestation import Attestation  # noqa: PLC0415 # the module's docstring says why

    return Attestation.create()
