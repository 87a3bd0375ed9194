"""The pure parts of benchmark and soak, and one tiny run of each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from replay import wire

from bench.load import WrongAnswerError, prepare, quote_in
from bench.rounds import Tally as ServerTally
from bench.soak import misbehaving
from bench.soak.run import Soaked
from bench.soak.verdict import failures_of
from bench.soak.watch import Watched
from bench.soak.well_behaved import Tally
from bench.summary import Latency, Spread, percentile
from confcom.aesm.session import ProtocolViolation, ServerSession
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY

ROOT = Path(__file__).parent.parent.parent
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="peers of their own take root")


def test_percentiles_are_values_that_occurred():
    ordered = [float(number) for number in range(1, 101)]
    assert (percentile(ordered, 0.5), percentile(ordered, 0.99), percentile(ordered, 1.0)) == (50.0, 99.0, 100.0)
    assert percentile([7.0], 0.01) == 7.0
    assert Latency.of(ordered[::-1]) == Latency(100, 50.0, 99.0, 100.0)
    assert Latency.of([]).count == 0
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_a_tally_is_the_median_of_its_rounds():
    assert ServerTally(ratios=[3.0, 5.0, 3.5]).ratio == Spread(3.5, 3.0, 5.0)


def test_every_prepared_request_has_a_report_of_its_own():
    first, second = prepare(DEFAULT_QE_IDENTITY.enclave().target_info(), 4600, 2)
    assert first.report_body != second.report_body
    assert first.report_body in first.frame
    assert first.report_body.endswith(first.report_data)


@pytest.mark.parametrize("answer", [b"", wire.frame(wire.data(17, wire.number(1, 18))), wire.frame(b"\xff")])
def test_what_is_no_quote_is_not_counted_as_one(answer):
    with pytest.raises(WrongAnswerError):
        quote_in(answer)


@pytest.mark.parametrize("lie", misbehaving.LIES)
def test_no_lie_is_a_request(lie):
    session = ServerSession()
    event = session.receive(lie) or session.receive_eof()
    assert isinstance(event, ProtocolViolation)


def passed(**changes):
    watched = {"exit_code": 0} | changes
    return Soaked(tallies={"Gramine": Tally(attestations=1)}, helpers=[Watched("first", **watched), Watched("last")])


def test_a_soak_in_which_nothing_happened_is_passed():
    assert failures_of(passed()) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"exit_code": 1}, "ended with 1"),
        ({"late_looks": 1, "longest_stall": 0.051}, "stalled for 0.051 s"),
        ({"complaints": ["/livez: 503"]}, "/livez: 503"),
    ],
)
def test_what_a_helper_must_not_do_fails_a_soak(change, complaint):
    (line,) = failures_of(passed(**change))
    assert complaint in line


def test_a_probe_that_only_waited_for_its_turns_does_not_fail_a_soak():
    assert failures_of(passed(longest_stall=0.06)) == []


def test_42_fails_a_soak_until_the_quoting_enclave_changes():
    soaked = passed()
    soaked.changed_at = 100.0
    soaked.tallies["Gramine"].renewals = [101.0]
    assert failures_of(soaked) == []
    soaked.tallies["Gramine"].renewals.append(99.0)
    assert failures_of(soaked) == ["Gramine: told 42 1 times before the quoting enclave changed"]


@pytest.mark.parametrize("client", [Tally(attestations=1, failures=[(0.0, "refused")]), Tally()])
def test_a_client_that_failed_or_never_came_fails_a_soak(client):
    soaked = passed()
    soaked.changed_at = 0.0
    soaked.tallies["Gramine"] = client
    assert len(failures_of(soaked)) == 1


def run_program(module, *arguments):
    """Run it as its user does: it forks, which this process, with threads of other tests in it, must not."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_tiny_benchmark(tmp_path):
    output = tmp_path / "bench.json"
    few = [
        "--only",
        "helper",
        "--rounds",
        "1",
        "--quotes",
        "200",
        "--repetitions",
        "2",
        "--starts",
        "1",
        "--idle",
        "50",
    ]
    done = run_program("bench", *few, "--output", str(output))
    assert done.returncode == 0, done.stderr
    results = json.loads(output.read_text())
    assert all(tally["ratios"][0] > 1 for tally in results["servers"].values())
    assert results["verified"] >= 2 * len(results["servers"])
    assert set(results["sequences"]) == {"Open Enclave", "Gramine", "Fortanix aesm-client"}
    if os.geteuid() == 0:
        assert results["idle"]["connections"] == 50
    assert "bare uvloop prototype" in done.stdout


@pytest.mark.slow
@NEEDS_ROOT
def test_a_tiny_soak(tmp_path):
    output = tmp_path / "soak.json"
    done = run_program("bench.soak", "--seconds", "2", "--without-program", "--output", str(output))
    assert output.exists(), done.stderr
    results = json.loads(output.read_text())
    # How long the loop was held up is not for a test: the machine is not the test's own.
    assert [line for line in results["failures"] if "stalled" not in line] == []
    assert all(client["attestations"] and client["calls"] for client in results["well_behaved"].values())
    assert all(kind["connections"] for kind in results["misbehaving"].values())
    assert [helper["exit_code"] for helper in results["helpers"]] == [0, 0, 0, None]
