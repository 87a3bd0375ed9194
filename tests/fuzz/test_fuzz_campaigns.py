"""Small campaigns of each kind find nothing in the product."""

import json
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from fuzz.__main__ import main
from fuzz.campaign import Plan, run_session_campaign
from fuzz.inputs import read_inputs
from fuzz.live_target import run_live_campaign
from fuzz.model import GET_QUOTE, IDS, INIT, LEGACY_KINDS, NUM, QUOTE_SIZE, SELECT, expect
from fuzz.mutations import Generator
from fuzz.oracle import Outcome
from fuzz.report import passed, table

SEEDS = Path(__file__).with_name("seeds")


def test_a_campaign_in_process():
    tally = run_session_campaign(Plan(seed=7, first=0, count=6_000), processes=1)
    assert passed(tally), table(tally)
    assert tally.inputs == sum(tally.outcomes.values()) == 6_000


def test_a_campaign_against_a_live_helper():
    tally = run_live_campaign(Plan(seed=7, first=0, count=1_500))
    assert passed(tally), table(tally)
    assert tally.notes["well-behaved rounds"] > 0


def test_every_kind_of_request_and_every_code_is_reached(target):
    generator = Generator(target.corpus, seed=3)
    expected = [expect(generator.make(index).data, target.rules) for index in range(4_000)]
    reached = {(one.kind, one.code) for one in expected}
    assert {(kind, 30) for kind in LEGACY_KINDS} <= reached
    assert {(NUM, 0), (IDS, 0), (IDS, 1), (IDS, 3), (SELECT, 0), (SELECT, 3), (SELECT, 38)} <= reached
    assert {(kind, code) for kind in (INIT, QUOTE_SIZE, GET_QUOTE) for code in (0, 3, 38)} <= reached
    assert {(INIT, 1), (GET_QUOTE, 1), (GET_QUOTE, 47)} <= reached


def test_an_input_follows_from_its_number_alone(target):
    one, other = Generator(target.corpus, seed=5), Generator(target.corpus, seed=5)
    backwards = [other.make(index) for index in reversed(range(50))]
    assert [one.make(index) for index in range(50)] == backwards[::-1]
    assert Generator(target.corpus, seed=6).make(0) != one.make(0)


@pytest.mark.parametrize("sent", list(read_inputs(SEEDS)), ids=lambda sent: str(sent)[:40])
def test_inputs_that_were_of_interest_once(target, sent):
    (result,) = target.run([sent])
    assert isinstance(result, Outcome), result


def test_processes_share_the_inputs(tmp_path):
    plan = Plan(seed=1, first=0, count=301)
    whole, shared = run_session_campaign(plan, 1), run_session_campaign(plan, 2)
    assert shared.outcomes == whole.outcomes
    assert len(shared.rss) == 2


def test_the_command_prints_a_table_and_a_line_of_json(capsys):
    assert main(["--count", "640", "--live-count", "0", "--processes", "1"]) == ExitCode.OK
    *lines, last = capsys.readouterr().out.splitlines()
    (campaign,) = json.loads(last)
    assert campaign["passed"]
    assert sum(campaign["outcomes"].values()) == campaign["inputs"] == 640
    assert "passed" in lines


def test_the_command_stops_in_time(capsys):
    assert main(["--seconds", "0", "--live-count", "0", "--processes", "1"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out.splitlines()[-1])[0]["inputs"] == 0


def test_the_command_replays_one_input(capsys):
    assert main(["--replay", "06000000+aa0103489875/wait"]) == ExitCode.OK
    assert capsys.readouterr().out == "answered GetSupportedAttKeyIDNum SUCCESS\n"
    assert main(["--replay", "nonsense"]) == ExitCode.UNUSABLE
