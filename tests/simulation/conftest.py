import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from confcom.sgx.pck.chain import PCK_CAS
from confcom.sgx.report import REPORT_DATA_SIZE
from confcom.simulation.enclave import ReportKeyFormat, SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.td_quoting_enclave import quote_td
from testkit.verify.td_lab import TD

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
def make_quote(application):
    def make(platform, td_body=None):
        if td_body:
            return quote_td(platform.seed, platform.pki, TD.report(bytes(range(REPORT_DATA_SIZE)), td_body))
        quoting_enclave = platform.quoting_enclave()
        report = application.create_report(quoting_enclave.target_info, bytes(range(REPORT_DATA_SIZE)))
        return quoting_enclave.quote(report, None)[0]

    return make


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
