import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from confcom.sgx.pck.chain import PCK_CAS
from confcom.simulation.enclave import ReportKeyFormat, SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform

VECTORS = Path(__file__).parent.parent / "vectors" / "sdk-simulation"


@pytest.fixture(scope="session")
def seed():
    return bytes(range(32))


@pytest.fixture(scope="session")
def now():
    return datetime(2026, 11, 24, 12, 30, 15, 678_901, tzinfo=UTC)


@pytest.fixture(scope="session", params=PCK_CAS)
def any_platform(request, seed, now):
    return SimulatedPlatform.create(seed, now, ca=request.param)


@pytest.fixture(scope="session")
def platform(seed, now):
    return SimulatedPlatform.create(seed, now)


@pytest.fixture(scope="session")
def quoting_enclave(platform):
    return platform.quoting_enclave()


@pytest.fixture(scope="session")
def application():
    return SimulatedEnclave.from_name("application")


@pytest.fixture(scope="session")
def sdk_reports():
    """Reports that Intel's SDK simulation code made, each with all its inputs."""
    return [
        (
            key_format,
            SimpleNamespace(**{k: bytes.fromhex(v) for k, v in json.loads(line).items() if isinstance(v, str)}),
        )
        for key_format in ReportKeyFormat
        for line in (VECTORS / f"{key_format.value}.jsonl").read_text().splitlines()
    ]
