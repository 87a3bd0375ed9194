import pytest

from fuzz.inputs import Ending, Input
from fuzz.targets import SessionTarget, fuzz_helper, fuzz_session

FEW = range(4_000)


def test_the_session_has_no_known_bug():
    tally = fuzz_session(7, FEW)
    assert not tally.wrong
    assert tally.outcomes.total() == len(FEW)


@pytest.mark.slow
def test_a_live_helper_has_no_known_bug():
    assert not fuzz_helper(7, range(1_000)).wrong


WAIT, HALF_CLOSE = Ending.WAIT, Ending.HALF_CLOSE
INPUTS = {
    "field 0 in a legacy request": ("080000007206020461626364", WAIT, "answered SgxRegister SERVICE_UNAVAILABLE"),
    "field 0 in num": ("09000000aa0106020461626364", WAIT, "closed"),
    "buf size above 32 bits": (
        "0e000000b2010b088082808090808080800000",
        WAIT,
        "answered GetSupportedAttKeyIDs SUCCESS",
    ),
    "tag of 5 bytes": ("0a000000aa81808000032848987500", HALF_CLOSE, "closed"),
}


@pytest.mark.parametrize(("pieces", "ending", "outcome"), INPUTS.values(), ids=INPUTS)
def test_inputs_of_interest(pieces, ending, outcome):
    sent = Input(tuple(map(bytes.fromhex, pieces.split("+"))), ending)
    assert SessionTarget(1).run(sent) == (outcome, "")
