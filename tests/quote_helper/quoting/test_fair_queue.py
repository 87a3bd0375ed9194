"""Fair turns against a model that is obviously right, and what fairness means in numbers."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from confcom.quote_helper.quoting.service import FairQueue

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 3)),
        st.tuples(st.just("take"), st.none()),
        st.tuples(st.just("discard"), st.integers(0, 60)),
    ),
    max_size=60,
)


@given(STEPS)
def test_it_does_what_a_round_of_lanes_does(steps):
    queue = FairQueue()
    round_ = deque()
    owners = {}
    for item, (step, argument) in enumerate(steps):
        lanes = dict(round_)
        if step == "put":
            queue.put(argument, item)
            owners[item] = argument
            if argument in lanes:
                lanes[argument].append(item)
            else:
                round_.append((argument, [item]))
        elif step == "take":
            expected = None
            if round_:
                owner, lane = round_.popleft()
                expected = lane.pop(0)
                if lane:
                    round_.append((owner, lane))
            assert queue.take() == expected
        else:
            owner = owners.get(argument)
            queue.discard(owner, argument)
            if argument in lanes.get(owner, ()):
                lanes[owner].remove(argument)
            round_ = deque(entry for entry in round_ if entry[1])
        assert len(queue) == sum(len(lane) for _, lane in round_)


def test_who_fills_a_lane_delays_another_by_one_item():
    queue = FairQueue()
    for number in range(1000):
        queue.put("flood", number)
    queue.take()
    queue.put("quiet", "asked")
    assert "asked" in (queue.take(), queue.take())
