"""The pytest plugin with the fixture of `confcom.testing`, which is imported only when a test uses the fixture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from confcom.testing.attestation import Attestation


@pytest.fixture(scope="session")
def attestation() -> Attestation:
    """Return a maker of quotes under a simulated root of this test run."""
    from confcom.testing.attestation import Attestation  # noqa: PLC0415 # see above

    return Attestation.create()
