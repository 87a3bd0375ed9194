"""Compares the fair queue's turns with those of a simple model."""

from hypothesis import given
from hypothesis import strategies as st

from confcom.quote_helper.fair_queue import FairQueue

OWNERS = range(4)
STEPS = st.sampled_from(["put", "put", "put", "take", "discard", "set_aside", "rejoin"])


class Model:
    """A simple queue. `round` has the owners in the order of their turns; an item is its step's number."""

    def __init__(self):
        self.lanes = {owner: [] for owner in OWNERS}
        self.round = []
        self.aside = set()

    def put(self, owner, item):
        self.lanes[owner].append(item)
        if owner not in self.round and owner not in self.aside:
            self.round.append(owner)

    def take(self):
        if not self.round:
            return None
        owner = self.round.pop(0)
        self.round.append(owner)
        return self.lanes[owner].pop(0)

    def discard(self, owner, item):
        if item in self.lanes[owner]:
            self.lanes[owner].remove(item)

    def set_aside(self, owner):
        self.round.remove(owner)
        self.aside.add(owner)

    def rejoin(self, owner):
        if owner in self.aside:
            self.aside.remove(owner)
            self.round.append(owner)

    def forget_empty(self):
        self.round = [owner for owner in self.round if self.lanes[owner]]
        self.aside = {owner for owner in self.aside if self.lanes[owner]}


@given(st.lists(st.tuples(STEPS, st.sampled_from(OWNERS), st.integers(0, 60)), max_size=60))
def test_it_does_what_a_round_of_lanes_does(steps):
    queue, model = FairQueue(), Model()
    for item, (step, owner, earlier) in enumerate(steps):
        arguments = {"put": (owner, item), "take": (), "discard": (owner, earlier)}.get(step, (owner,))
        if step == "set_aside" and owner not in model.round:
            continue
        assert getattr(queue, step)(*arguments) == getattr(model, step)(*arguments)
        model.forget_empty()
        assert queue.head() == (model.lanes[model.round[0]][0] if model.round else None)
        assert [queue.head_of(owner) for owner in OWNERS] == [next(iter(model.lanes[owner]), None) for owner in OWNERS]
        assert [owner in queue for owner in OWNERS] == [bool(model.lanes[owner]) for owner in OWNERS]
        assert queue.size == sum(map(len, model.lanes.values()))
