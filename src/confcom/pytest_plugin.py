"""The pytest plugin with `attestation` and `collateral_source`; `confcom.testing` is imported when a test uses one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from confcom.collateral import Source
    from confcom.testing.attestation import Attestation


@pytest.fixture(scope="session")
def attestation() -> Attestation:
    """Return an object that makes quotes under a simulated root, which is new in each test run."""
    from confcom.testing.attestation import Attestation  # noqa: PLC0415 # the module's docstring says why

    return Attestation.create()


@pytest.fixture(scope="session")
def collateral_source(attestation: Attestation) -> Iterator[Source]:
    """Serve the collateral of `attestation`'s quotes on the loopback, and return its Source."""
    from confcom.testing.collateral_service import serve_collateral  # noqa: PLC0415 # the extra may be missing

    with serve_collateral(attestation) as source:
        yield source
