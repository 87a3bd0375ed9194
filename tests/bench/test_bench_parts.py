"""The pure parts of benchmark and soak, and one tiny run of each."""

import json
import os
import time
from pathlib import Path

import pytest

from bench.load import WrongAnswerError, prepare, quote_in
from bench.rounds import Tally as ServerTally
from bench.soak import attacks, misbehaving, well_behaved
from bench.soak.run import MEMORY_LIMIT, UPDATES, Soaked, SoakPlan
from bench.soak.verdict import as_json, as_table, failures_of
from bench.soak.watch import Watched
from bench.soak.well_behaved import Tally
from bench.summary import Latency, Spread, percentile
from confcom.aesm.session import ProtocolViolation, ServerSession
from confcom.errors import ConfcomError
from confcom.simulation.quoting_enclave import DEFAULT_QE_IDENTITY
from testkit.programs import run_python
from testkit.replay import wire

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
        ({"killed": 1}, "needed more memory than its limit"),
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


def test_the_phases_of_attacks_follow_one_another_and_fill_the_time():
    phases = attacks.phases(100.0, 60.0)
    assert (phases[0].begins, phases[-1].ends) == (100.0, pytest.approx(160.0))
    assert [one.ends for one in phases[:-1]] == pytest.approx([one.begins for one in phases[1:]])
    assert [phase.name for phase in phases] == [attacks.NONE, *dict.fromkeys(one.name for one in phases[1:])]


def test_no_update_comes_while_probes_are_attacked():
    """Each helper has a path of its own for them."""
    on_probes = [one for one in attacks.phases(0.0, 1.0) if one.attack is not None and one.attack.on_probes]
    updates = [(number + 1) / (len(UPDATES) + 1) for number in range(len(UPDATES))]
    assert on_probes
    assert not [moment for phase in on_probes for moment in updates if phase.begins <= moment <= phase.ends]


def test_the_probes_that_are_attacked_are_those_of_the_helper_that_started_last(tmp_path):
    for age, name in enumerate(("new.probes", "old.probes")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (100 - age, 100 - age))
    assert attacks.newest_probes(tmp_path) == str(tmp_path / "new.probes")


def test_what_happened_is_told_by_the_attack_during_which_it_happened():
    soaked = passed()
    soaked.phases = attacks.phases(0.0, 10.0)
    soaked.changed_at = 0.0
    soaked.attacks = {"unread": {"made": 7}}
    soaked.tallies["Gramine"] = Tally(
        attestations=3, failures=[(1.5, "refused")], latencies=[0.1, 0.2, 0.3], moments=[0.5, 1.5, 1.6]
    )
    plan = SoakPlan(10.0, 1.0, None)
    first, second, third, *_ = as_json(plan, soaked, {})["attacks"]
    assert [one["latency"]["count"] for one in (first, second, third)] == [1, 2, 0]
    assert (first["failures"], second["failures"], second["did"]) == (0, 1, {"made": 7})
    (line,) = [line for line in as_table(plan, soaked).splitlines() if line.startswith("  unread ")]
    assert line.split() == ["unread", "2", "1", "200.00", "300.00", "300.0", "made", "7"]


def test_a_client_may_fail_only_while_an_attacker_takes_what_all_share():
    soaked = passed()
    soaked.changed_at = 0.0
    soaked.phases = attacks.phases(0.0, 100.0)
    filled = next(one for one in soaked.phases if one.attack is not None and one.attack.fills_backlog)
    soaked.tallies["Gramine"].failures = [(filled.begins, "Num: the backlog is full")]
    assert failures_of(soaked) == []
    soaked.tallies["Gramine"].failures = [(filled.begins, "Num: no answer")]
    assert len(failures_of(soaked)) == 1
    soaked.tallies["Gramine"].failures = []
    spared = next(one for one in soaked.phases if one.attack is not None and one.attack.takes_all)
    other = next(one for one in soaked.phases if one.attack is not None and not one.attack.takes_all)
    soaked.tallies["Gramine"].failures = [(spared.begins, "refused")]
    assert failures_of(soaked) == []
    soaked.tallies["Gramine"].failures = [(other.begins, "refused")]
    assert len(failures_of(soaked)) == 1


@pytest.mark.parametrize(("ago", "is_refused"), [(0.0, True), (well_behaved.PROGRAM_PATIENCE_SECONDS, False)])
def test_whether_the_backlog_was_full_is_told_by_the_time_that_the_program_took(monkeypatch, ago, is_refused):
    def refused(*_, **__):
        raise ConfcomError("no quote", why="Resource temporarily unavailable (os error 11)")

    monkeypatch.setattr(well_behaved, "quote_once", refused)
    tally = Tally()
    well_behaved.program(Path("program"), "socket")(tally, time.monotonic() - ago)
    ((_, complaint),) = tally.failures
    assert (attacks.BACKLOG_FULL in complaint) is is_refused


@pytest.mark.slow
def test_a_tiny_benchmark(tmp_path):
    output = tmp_path / "bench.json"
    few = ["--only", "helper", "--rounds", 1, "--quotes", 200, "--repetitions", 2, "--starts", 1, "--idle", 50]
    done = run_python("-m", "bench", *few, "--output", output, cwd=ROOT, timeout=None)
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
    few = ["--seconds", 2, "--without-program", "--output", output]
    done = run_python("-m", "bench.soak", *few, cwd=ROOT, timeout=None)
    assert output.exists(), done.stderr
    results = json.loads(output.read_text())
    # How long the loop was held up is not for a test: the machine is not the test's own.
    assert [line for line in results["failures"] if "stalled" not in line] == []
    assert all(client["attestations"] and client["calls"] for client in results["well_behaved"].values())
    assert all(kind["connections"] for kind in results["misbehaving"].values())
    assert [one["attack"] for one in results["attacks"]] == [phase.name for phase in attacks.phases(0.0, 1.0)]
    assert sum(one["did"].get("made", 0) for one in results["attacks"]) > 0  # none has more than a fifth of a second
    assert all(0 < helper["highest"] <= MEMORY_LIMIT and not helper["killed"] for helper in results["helpers"])
    assert [helper["exit_code"] for helper in results["helpers"]] == [0, 0, 0, None]
