import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.pki import PckCaType
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.quoting_enclave import QuotingEnclave

VECTORS = Path(__file__).parent.parent / "vectors" / "sdk-simulation"


@pytest.fixture(scope="session")
def seed() -> bytes:
    return bytes(range(32))


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime(2026, 11, 24, 12, 30, 15, 678_901, tzinfo=UTC)


@pytest.fixture(scope="session", params=list(PckCaType), ids=lambda ca_type: ca_type.value)
def any_platform(request: pytest.FixtureRequest, seed: bytes, now: datetime) -> SimulatedPlatform:
    """A platform of each kind of PCK CA."""
    return SimulatedPlatform.create(seed, now, ca_type=request.param)


@pytest.fixture(scope="session")
def platform(seed: bytes, now: datetime) -> SimulatedPlatform:
    return SimulatedPlatform.create(seed, now)


@pytest.fixture(scope="session")
def quoting_enclave(platform: SimulatedPlatform) -> QuotingEnclave:
    return platform.quoting_enclave()


@pytest.fixture(scope="session")
def application() -> SimulatedEnclave:
    return SimulatedEnclave.from_name("application")


@dataclass(frozen=True)
class Vector:
    """One report as Intel's SDK simulation code made it."""

    key_format: str
    fields: dict[str, str]

    def __getattr__(self, name: str) -> bytes:
        try:
            return bytes.fromhex(self.fields[name])
        except KeyError:
            raise AttributeError(name) from None


@pytest.fixture(scope="session")
def make_quote(application: SimulatedEnclave) -> Callable[[SimulatedPlatform], bytes]:
    def make(platform: SimulatedPlatform, enclave: SimulatedEnclave = application) -> bytes:
        quoting_enclave = platform.quoting_enclave()
        report = enclave.create_report(quoting_enclave.target_info, bytes(range(REPORT_DATA_SIZE)))
        return quoting_enclave.quote(report, None)[0]

    return make


def _vectors() -> Iterator[Vector]:
    for key_format in ("current", "legacy"):
        for line in (VECTORS / f"{key_format}.jsonl").read_text().splitlines():
            fields = json.loads(line)
            yield Vector(key_format, {name: value for name, value in fields.items() if isinstance(value, str)})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "vector" in metafunc.fixturenames:
        vectors = list(_vectors())
        metafunc.parametrize(
            "vector", vectors, ids=[f"{vector.key_format}-{number}" for number, vector in enumerate(vectors)]
        )
