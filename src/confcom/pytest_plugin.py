"""The pytest plugin with the fixture of `confcom.testing`, of which it imports nothing until a test asks for it."""

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
