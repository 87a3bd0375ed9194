"""Plugins and kubelet in every disorder: a state machine over real plugin processes and the kubelet stand-in.

The model and the invariants are those of `chaos.world`. CHAOS_EXAMPLES=50 makes a longer run of it; `make chaos` counts
kills.
"""

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from chaos.disturbance import Disturbance
from chaos.instance import PLANTED
from chaos.planted import BUGS
from chaos.world import BrokenInvariantError, World
from confcom.playground.kubelet.plugin_registry import KubeletRules

EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "3"))
STEPS = 8
SEARCHED = 100
"""Examples until a bug counts as not found."""
PLANTED_PATIENCE_SECONDS = 4.0
"""The plugin's slowest reaction takes 1 s; what a bug leaves undone is waited for in vain."""

RUN = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="CHAOS_EXAMPLES" not in os.environ,
    database=None,
    print_blob=True,
    # A shorter example is not worth the minutes: each step prints what it did.
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)

numbers = st.integers(0, 11)
pods = st.sampled_from([Disturbance.SUBMIT, Disturbance.SUBMIT_PAST_SCHEDULER, Disturbance.DELETE])
plugins = st.sampled_from([Disturbance.START, Disturbance.KILL, Disturbance.TERMINATE])
sockets = st.sampled_from(
    [Disturbance.REMOVE_PLUGIN_SOCKET, Disturbance.REMOVE_KUBELET_SOCKET, Disturbance.REMOVE_EVERY_SOCKET]
)


START, KILL_THE_SECOND = (Disturbance.START, 0), (Disturbance.KILL, 1)
LOSE_DEVICE, REMOVE_SOCKET = (Disturbance.LOSE_DEVICE, 0), (Disturbance.REMOVE_PLUGIN_SOCKET, 0)


class Chaos(RuleBasedStateMachine):
    """Each rule disturbs, waits until all has settled, and sees whether all holds."""

    def __init__(self, make_world):
        super().__init__()
        self._runner = asyncio.Runner()
        self._world = self._runner.run(_made(make_world))
        try:
            self._run(self._world.open())
        except BaseException:
            self.teardown()
            raise

    def _run(self, work):
        self._runner.run(work)

    def _disturb(self, *steps):
        self._run(self._world.disturb(*steps))

    @rule(disturbance=pods, number=numbers)
    def submit_or_delete_a_pod(self, disturbance, number):
        self._disturb((disturbance, number))

    @rule(disturbance=plugins, number=numbers)
    def start_or_end_an_instance(self, disturbance, number):
        self._disturb((disturbance, number))

    @rule(disturbance=sockets, number=numbers)
    def remove_a_socket(self, disturbance, number):
        self._disturb((disturbance, number))

    @rule()
    def restart_the_kubelet(self):
        self._disturb((Disturbance.KUBELET_RESTART, 0))

    @rule(steps=st.lists(st.tuples(st.sampled_from(Disturbance), numbers), min_size=2, max_size=4))
    def at_once(self, steps):
        self._disturb(*steps)

    def teardown(self):
        self._runner.run(self._world.close())
        self._runner.close()


async def _made(make_world):
    return make_world()


@pytest.mark.slow
@pytest.mark.timeout(120 * EXAMPLES)
@pytest.mark.parametrize("rules", list(KubeletRules), ids=str)
def test_whatever_happens_the_node_settles(rules):
    run_state_machine_as_test(lambda: Chaos(lambda: World(rules)), settings=RUN)


class FoundError(BaseException):
    """Ends a search with the first finding's codes: hypothesis would run the example twice more, and wait as often."""


class Search(Chaos):
    """Chaos until something is found."""

    def _run(self, work):
        try:
            super()._run(work)
        except BrokenInvariantError as error:
            raise FoundError(error.codes) from error


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bug", "found"), BUGS.items(), ids=[bug.__name__ for bug in BUGS])
def test_a_plugin_with_a_bug_is_found(bug, found):
    def buggy():
        return World(KubeletRules.UP_TO_1_36, program=(PLANTED, bug.__name__), patience=PLANTED_PATIENCE_SECONDS)

    with pytest.raises(FoundError) as caught:
        run_state_machine_as_test(lambda: Search(buggy), settings=settings(RUN, max_examples=SEARCHED))
    assert found in caught.value.args[0]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("bug", "happenings", "found"),
    [
        ("never_looks_for_its_socket", [REMOVE_SOCKET], "socket-gone"),
        ("forgets_other_instances", [START, KILL_THE_SECOND], "nobody-asked"),
        ("never_looks_at_the_device", [LOSE_DEVICE], "registered-without-device"),
        ("one_name_for_all", [START], "not-settled"),
    ],
)
async def test_a_bug_that_takes_the_right_disturbances_is_found(bug, happenings, found):
    world = World(KubeletRules.UP_TO_1_36, program=(PLANTED, bug), patience=PLANTED_PATIENCE_SECONDS)
    try:
        await world.open()
        for happening in happenings[:-1]:
            await world.disturb(happening)
        with pytest.raises(BrokenInvariantError) as caught:
            await world.disturb(happenings[-1])
        assert found in caught.value.codes
    finally:
        await world.close()
