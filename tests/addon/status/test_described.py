"""Status agrees with `kubectl describe node`: what kubectl 1.32 printed of these objects, as recorded."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from confcom.addon.model.slim_objects import Slimmer
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.status.status import add_on_status
from confcom.kubernetes.objects import amount
from testkit.fake_cluster.objects import EPC, SYSTEM

RECORDED = Path(__file__).parent / "described"


def described(section):
    """The amount of EPC in a section of kubectl's text."""
    text = (RECORDED / "describe-node.txt").read_text()
    part = re.split(r"^(?=\S)", text.partition(f"{section}:\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    (line,) = [one for one in part.splitlines() if EPC in one]
    return amount(line.split()[1])


def test_the_same_amounts():
    objects = json.loads((RECORDED / "objects.json").read_text())
    slimmer = Slimmer(SYSTEM, lambda _: False)
    nodes, pods = map(slimmer.node, objects["nodes"]), map(slimmer.pod, objects["pods"])
    (node,) = add_on_status(Snapshot(SYSTEM, nodes=tuple(nodes), pods=tuple(pods)), datetime.now(UTC)).nodes
    shown = (node.epc.capacity, node.epc.allocatable, node.epc.used)
    assert shown == tuple(map(described, ("Capacity", "Allocatable", "Allocated resources")))
    assert shown == (100_000, 100_000, 2_270)
