"""`make chaos`: kills counted, and everything else that happens meanwhile."""

import argparse
import asyncio
import itertools
import logging
import random
import sys

from chaos.disturbance import Disturbance
from chaos.world import AS_CAPACITY, AS_DEVICES, World
from confcom.playground.kubelet.plugin_registry import KubeletRules

KILLS = 100
ONE_BY_ONE = (
    Disturbance.SUBMIT, Disturbance.START, Disturbance.KUBELET_RESTART, Disturbance.START, Disturbance.TERMINATE,
    Disturbance.KILL, Disturbance.REMOVE_PLUGIN_SOCKET, Disturbance.LOSE_DEVICE, Disturbance.RETURN_DEVICE,
    Disturbance.SUBMIT_PAST_SCHEDULER, Disturbance.DELETE, Disturbance.REMOVE_KUBELET_SOCKET,
    Disturbance.KUBELET_RESTART, Disturbance.REMOVE_EVERY_SOCKET, Disturbance.KUBELET_RESTART,
)  # fmt: skip
"""Every disturbance alone, in an order in which each can happen."""
COMMON = (
    Disturbance.SUBMIT,
    Disturbance.SUBMIT_PAST_SCHEDULER,
    Disturbance.DELETE,
    *[Disturbance.KUBELET_RESTART] * 4,
    *[Disturbance.RETURN_DEVICE] * 2,
)
"""What is chosen more often: pods to lose, and what gives back a kubelet and a device that were taken away."""


async def campaign(rules, kills, seed, accounting=AS_DEVICES):
    """Disturb a node by everything alone, and then at random until so many instances were killed; returns its world."""
    choose = random.Random(seed)
    world = World(rules, accounting=accounting)
    try:
        await world.open()
        for disturbance in ONE_BY_ONE:
            await world.disturb((disturbance, choose.randrange(12)))
        while world.done[Disturbance.KILL] < kills:
            some = choose.choices([*Disturbance, *COMMON], k=choose.randint(1, 3))
            picked = [Disturbance.KILL, *some, *[Disturbance.START] * 2]
            choose.shuffle(picked)
            await world.disturb(*((disturbance, choose.randrange(12)) for disturbance in picked))
    finally:
        await world.close()
    return world


def report(world, rules, seed, accounting):
    """What happened in a campaign, as lines."""
    counts = ", ".join(f"{world.done[kind]} {kind.name.lower()}" for kind in Disturbance)
    rejected = "; ".join(f"{count} {reason}" for reason, count in world.rejected.items()) or "none"
    return [
        f"kubelet {rules}, EPC as {accounting}, seed {seed}: each round settled, no pod lost, no device held twice",
        f"  {counts}",
        f"  {world.started} instances, {world.register_calls} registrations",
        f"  {world.submitted} pods; rejected: {rejected}",
    ]


def main():
    """Run it for the rules of both versions, and both ways of counting EPC."""
    parser = argparse.ArgumentParser(prog="make chaos", description="Kill device plugins on the kubelet stand-in.")
    parser.add_argument(
        "--kills", type=int, default=KILLS, help="kill -9 for each version's rules (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is chosen (default %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    for rules, accounting in itertools.product(KubeletRules, (AS_DEVICES, AS_CAPACITY)):
        world = asyncio.run(campaign(rules, arguments.kills, arguments.seed, accounting))
        for line in report(world, rules, arguments.seed, accounting):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
