"""The clients that run in pods, against a helper process here."""

import itertools

import pytest

from confcom.quote_provider.export import export_platform
from confcom.quote_provider.state_directory import open_platform, utc_now
from e2e.load import client as load_client
from e2e.load.attestation import Attestation
from e2e.load.client import Client
from e2e.load.outcome import Outcome, Trust
from e2e.load.pods import LoadPod
from testkit.helper_process import running_helper
from testkit.replay.clients import GRAMINE, INTEL_QUOTE_EX


@pytest.fixture(scope="module")
def helper():
    with running_helper() as running:
        yield running


@pytest.fixture
def trust(helper, tmp_path):
    now = utc_now()
    export_platform(open_platform(helper.state_dir), tmp_path / "trust", now)
    return Trust(tmp_path / "trust", now)


def attested(helper, sequence, count):
    clock = itertools.count().__next__
    client = Client(sequence, helper.socket, lambda: float(clock()))
    return [client.attest(0.0) for _ in range(count)]


def test_a_line_of_results_is_read_as_it_was_written(helper):
    for one in attested(helper, INTEL_QUOTE_EX, 2):
        line = one.to_line()
        assert line.count(b"\n") == 1
        assert Attestation.parse(line) == one


def test_a_client_starts_anew_after_some_attestations_and_after_a_failure(helper, tmp_path, monkeypatch):
    monkeypatch.setattr(load_client, "ATTESTATIONS_PER_PROCESS", 2)
    calls = [len(one.seconds) for one in attested(helper, GRAMINE, 4)]
    assert calls == [2, 1, 2, 1]
    lost = Client(GRAMINE, tmp_path / "nobody", lambda: 0.0).attest(-2.0)
    assert lost.failure
    assert lost.late
    assert lost.quotes == ()


def test_every_quote_is_verified_and_a_wrong_one_is_named(helper, trust):
    (good,) = attested(helper, GRAMINE, 1)
    (quote, report_data) = good.quotes[0]
    wrong = quote[:500] + bytes([quote[500] ^ 1]) + quote[501:]
    assert trust.complaints([(quote, report_data)]) == []
    (complaint,) = trust.complaints([(quote, report_data), (wrong, report_data)])
    assert complaint.startswith(report_data.hex()[:16])
    assert len(trust.complaints([(quote, bytes(64))])) == 1


def test_the_outcome_counts_what_the_results_hold(helper, tmp_path):
    pod = LoadPod("client-1-1", GRAMINE.name, "node", 5, tmp_path)
    assert pod.latest == float("-inf")
    done = attested(helper, GRAMINE, 3)
    failed = Attestation(9.0, False, (0.1,), 1, "GetQuoteEx: Connection refused", ())
    incomplete = done[0].to_line()[:40]
    (tmp_path / load_client.RESULTS).write_bytes(b"".join(one.to_line() for one in [*done, failed]) + incomplete)
    assert pod.latest == 9.0
    outcome = Outcome({pod: tuple(pod.attestations())})
    assert len(outcome.quotes) == sum(outcome.quoting_enclaves.values()) == 3
    assert outcome.failures == [(9.0, "client-1-1 (Gramine): GetQuoteEx: Connection refused")]
    assert outcome.renewals == [9.0]
    assert outcome.span == (done[0].began, 9.0)
    assert next(itertools.islice(outcome.table(), 1, None)).split()[:4] == ["client-1-1", "Gramine", "4", "3"]


def test_a_client_that_attested_too_seldom_or_stopped_early_is_named(tmp_path):
    def lasting(count, rate):
        return tuple(Attestation(number / rate, False, (0.1,), 0, "", ()) for number in range(count))

    busy, slow, gone = (LoadPod(f"client-1-{one}", GRAMINE.name, "node", 5, tmp_path) for one in (1, 2, 3))
    outcome = Outcome({busy: lasting(101, 10.0), slow: lasting(81, 8.0), gone: lasting(41, 10.0)})
    assert outcome.not_offered(10.0) == [
        "client-1-2 (Gramine): 81 attestations of 100",
        "client-1-3 (Gramine): 41 attestations of 100",
    ]
    assert outcome.not_offered(4.0) == []
    failing = tuple(Attestation(number / 10, False, (0.1,), 0, "refused", ()) for number in range(101))
    assert Outcome({busy: failing}).not_offered(10.0) == []
