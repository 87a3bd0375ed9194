"""Plugins and kubelet in every disorder: real plugin processes and the kubelet stand-in, as `make chaos` runs them.

The model and the invariants are those of `chaos.world`.
"""

import pytest

from chaos.__main__ import campaign
from chaos.disturbance import Disturbance
from chaos.instance import PLANTED
from chaos.world import AS_CAPACITY, AS_DEVICES, BrokenInvariantError, World
from confcom.playground.kubelet.plugin_registry import KubeletRules

KILLS = 7
"""A round each, of four to six disturbances at once, after each disturbance alone; `make chaos` does more of them."""
PLANTED_PATIENCE_SECONDS = 4.0
"""The plugin's slowest reaction takes 1 s; what a bug leaves undone is waited for in vain."""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("accounting", [AS_DEVICES, AS_CAPACITY])
@pytest.mark.parametrize("rules", list(KubeletRules), ids=str)
async def test_whatever_happens_the_node_settles(rules, accounting):
    world = await campaign(rules, KILLS, 1, accounting)
    assert set(+world.done) == set(Disturbance)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("bug", "disturbances", "code"),
    [
        ("forgets_lost_streams", [Disturbance.KUBELET_RESTART], "not-settled"),
        ("registers_in_a_loop", [], "registered-too-often"),
        ("trusts_its_socket", [Disturbance.KUBELET_RESTART], "not-registered"),
        ("never_looks_for_its_socket", [Disturbance.REMOVE_PLUGIN_SOCKET], "socket-gone"),
        ("forgets_other_instances", [Disturbance.START, Disturbance.KILL], "nobody-asked"),
        ("never_looks_at_the_device", [Disturbance.LOSE_DEVICE], "registered-without-device"),
        ("one_name_for_all", [Disturbance.START], "not-settled"),
    ],
)
async def test_a_plugin_with_a_bug_is_found(bug, disturbances, code):
    world = World(KubeletRules.UP_TO_1_36, program=(PLANTED, bug))
    try:
        with pytest.raises(BrokenInvariantError) as caught:
            await provoke(world, disturbances)
        assert code in caught.value.codes
    finally:
        await world.close()


async def provoke(world, disturbances):
    await world.open()
    for number, disturbance in enumerate(disturbances, start=1):
        if number == len(disturbances):
            world.patience = PLANTED_PATIENCE_SECONDS
        await world.disturb((disturbance, 1))
