"""EPC that the device plugins will hold back is told before a change."""

import pytest

from confcom.addon.model.chart_objects import Plan
from confcom.addon.model.epc_accounting import PluginEpc
from confcom.addon.preflight.held_back import check_held_back
from confcom.kubernetes.epc_accounting import AccountingKind
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC

OLD, NEW = "--api-server=1.35", "--api-server=1.36"
CAPACITY, WITHOUT = "--capacity-support=supported", "--capacity-support=policy-off"


def findings(*args, epc=0, has=0, told=None, selector=make.SIMULATED):
    """Of one node, which simulates unless a plugin on hardware told something, and may have EPC in its status."""
    simulated = ["--simulated", f"--simulated-epc-mib={epc}"] if selector == make.SIMULATED else []
    plugin = make.daemon_set("device-plugin", selector, args=[*simulated, *args, "--accounting=auto"])
    nodes = [make.node("n", selector, resources={EPC: has} if has else {}), make.node("other")]
    return list(check_held_back(Plan((plugin,)), nodes, {"n": told} if told else {}))


def told(found, kind=AccountingKind.DEVICE, offered=2_048):
    return PluginEpc(found, offered, 0, kind, "", "")


SIMULATES = [
    ((OLD, WITHOUT), 262_144, None),
    ((OLD, WITHOUT), 1_048_576, 786_432),
    ((OLD, WITHOUT, "--reserve-epc-mib=100", "--helper-epc-mib=3"), 262_300, 50),
    ((NEW, WITHOUT), 2_048, None),
    ((NEW, WITHOUT), 4_096, 2_048),
    ((NEW, CAPACITY), 1_048_576, None),
    ((NEW, CAPACITY, "--accounting=devices"), 1_048_576, 1_046_528),
    ((NEW, CAPACITY, "--accounting=capacity"), 1_048_576, None),
    (("--api-server=", "--capacity-support=offline"), 4_096, 2_048),
    (("--api-server=v1.36+", WITHOUT), 4_096, 2_048),
    ((NEW, WITHOUT, "--max-epc-mib=1024"), 4_096, None),
]
"""What a simulated node will offer."""
KEEPS = [
    ((NEW, WITHOUT), 16_384, None),
    ((NEW, WITHOUT), 4_096, 12_288),
    ((NEW, WITHOUT), 162, 14_336),
    ((NEW, CAPACITY), 4_096, None),
]
"""By what a simulated node of 16,384 MiB has in its status."""
HARDWARE = [
    ((NEW, CAPACITY), told(4_096), 2_048),
    ((NEW, CAPACITY), told(4_096, AccountingKind.CAPACITY, 4_096), None),
    ((NEW, WITHOUT), told(4_096, AccountingKind.CAPACITY, 4_096), 2_048),
    ((NEW, CAPACITY), told(300_000, offered=262_144), 37_856),
    ((NEW, CAPACITY), told(28, offered=28), None),
    ((NEW, CAPACITY), None, None),
]
"""By what a hardware node's plugin tells."""


@pytest.mark.parametrize(
    ("args", "node", "more"),
    [
        *((args, {"epc": epc}, more) for args, epc, more in SIMULATES),
        *((args, {"epc": 16_384, "has": has}, more) for args, has, more in KEEPS),
        *((args, {"told": seen, "selector": make.HARDWARE}, more) for args, seen, more in HARDWARE),
    ],
)
def test_what_will_be_held_back(args, node, more):
    found = findings(*args, **node)
    assert [one.code for one in found] == (["epc-held-back"] if more else [])
    if more:
        assert f": {more} of " in found[0].what
