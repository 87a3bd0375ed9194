from datetime import UTC, datetime, timedelta

import pytest

from confcom.node_test.judgement import ending, refusal, release_trust, sample_trust
from confcom.sample_workload import DEFAULT_ENCLAVE_NAME
from confcom.sgx.report import report_data
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.enclave import SimulatedEnclave
from confcom.simulation.platform import SimulatedPlatform
from confcom.simulation.root_seed import RootSeed
from confcom.verify import Collateral, TrustedRoot

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CREATED = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
CHALLENGE = bytes(range(32))


def platform(seed=1, created=CREATED):
    return SimulatedPlatform.of_root(RootSeed(bytes([seed]) * 32, created))


def quote(of=None, *, enclave=DEFAULT_ENCLAVE_NAME, challenge=CHALLENGE):
    quoting = (of or platform()).quoting_enclave()
    report = SimulatedEnclave.from_name(enclave).create_report(quoting.checker.target, report_data(challenge))
    return quoting.quote(report, None)[0]


@pytest.mark.parametrize(
    ("made", "trust", "code"),
    [
        (quote(), release_trust(platform(), Staging.NONE, NOW), None),
        (quote(), release_trust(platform(2), Staging.NONE, NOW), "root"),
        (quote(), release_trust(platform(), Staging.OUT_OF_DATE, NOW), "tcb-status"),
        (quote(enclave="another"), release_trust(platform(), Staging.NONE, NOW), "mr-enclave"),
        (quote(challenge=b"replayed"), release_trust(platform(), Staging.NONE, NOW), "report-data"),
        (b"no quote", release_trust(platform(), Staging.NONE, NOW), "format"),
    ],
)
def test_a_quote_is_judged_by_the_releases_root_and_staging(made, trust, code):
    found = refusal(made, CHALLENGE, trust, NOW)
    assert (found and found.code) == code


@pytest.mark.parametrize(("within", "code"), [(timedelta(days=7), None), (timedelta(days=40_000), "certificate-ends")])
def test_certificates_that_end_soon(within, code):
    found = ending(quote(), release_trust(platform(), Staging.NONE, NOW), NOW, within)
    assert (found and found.code) == code


@pytest.mark.parametrize(("part", "code"), [(0.5, None), (0.9, "collateral-not-renewed")])
def test_collateral_that_nobody_renews(part, code):
    collateral = Collateral.from_files(platform().collateral(NOW).to_files())
    _, begin, end = min(collateral.read().periods, key=lambda one: one[2] - one[1])
    trust = sample_trust(TrustedRoot.load(platform().pki.root.pem), collateral)
    found = ending(quote(), trust, begin + part * (end - begin), timedelta(days=7))
    assert (found and found.code) == code
