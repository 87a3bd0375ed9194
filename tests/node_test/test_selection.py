import pytest

from confcom.addon.daemon_pods import daemon_pod
from confcom.kubernetes.node import Node
from confcom.node_test.selection import NodeTestError, select, targets
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC

PARTS = ("device-plugin", "quote-helper")


def found(*nodes, sets=None, pods=()):
    sets = sets or [make.daemon_set(part) for part in PARTS]
    return targets(map(Node.parse, nodes), sets, map(daemon_pod, pods))


def simulated(*names, **more):
    return [make.node(name, make.SIMULATED, resources={EPC: 162}, **more) for name in names]


def names(chosen):
    return [one.node.name for one in chosen]


def test_nodes_that_no_quote_helper_selects_are_left_out():
    assert names(found(*simulated("a"), make.node("b"))) == ["a"]
    hardware_without_helper = [make.daemon_set(PARTS[0], make.HARDWARE, args=()), *map(make.daemon_set, PARTS)]
    assert names(found(make.node("h", make.HARDWARE), *simulated("a"), sets=hardware_without_helper)) == ["a"]


def test_three_of_each_kind_healthy_nodes_first():
    nodes = [*simulated("down", ready=False), *simulated(*"abcde")]
    nodes += [make.node(name, make.HARDWARE) for name in "hi"]
    nodes[1]["spec"]["taints"] = [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]
    nodes[4]["metadata"]["managedFields"] = [make.writes_of([EPC])]
    sets = [
        make.daemon_set(part, label, args=args)
        for part in PARTS
        for label, args in ((make.SIMULATED, ("--simulated",)), (make.HARDWARE, ()))
    ]
    pods = [make.daemon(part, "b", revision="2") for part in PARTS]
    everything = found(*nodes, sets=sets, pods=pods)
    # The node b (other revisions) and the node d (by capacity) are kinds of their own; the node a is cordoned.
    assert sorted(names(select(everything, (), everything=False))) == ["b", "c", "d", "down", "e", "h", "i"]
    assert names(select(everything, (), everything=True)) == ["down", *"abcde", *"hi"]
    many = found(*simulated("down", ready=False), *simulated(*"abcd"))
    assert names(select(many, (), everything=False)) == ["a", "b", "c"]


def test_named_nodes_are_tested_once_in_the_given_order():
    assert names(select(found(*simulated(*"abc")), ("c", "a", "c"), everything=False)) == ["c", "a"]


@pytest.mark.parametrize(
    ("nodes", "named", "code"),
    [((), (), "no-tested-nodes"), (simulated("a"), ("x",), "node-not-tested")],
)
def test_what_cannot_be_tested_is_refused(nodes, named, code):
    with pytest.raises(NodeTestError) as raised:
        select(found(*nodes), named, everything=False)
    assert (raised.value.error_code, raised.value.exit_code) == (code, 7)


def test_the_aesm_directory_is_mounted_unless_the_plugin_says_no():
    sets = [make.daemon_set(PARTS[0], args=("--simulated", "--no-aesmd-mount")), make.daemon_set(PARTS[1])]
    assert [one.mounts_aesmd for one in (*found(*simulated("a"), sets=sets), *found(*simulated("a")))] == [False, True]
