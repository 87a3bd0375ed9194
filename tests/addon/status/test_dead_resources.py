import pytest

from confcom.addon.status.stale_resources import (
    FOREIGN_AFTER_SECONDS,
    SETTLED_SECONDS,
    Settling,
    Stage,
    StaleResources,
    removal,
    stale_resources,
    written,
)
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import EPC


def node(capacity, allocatable, **more):
    made = make.node("a", **more)
    made["status"]["capacity"] |= {EPC: capacity} if capacity else {}
    made["status"]["allocatable"] |= {EPC: allocatable} if allocatable else {}
    return made


@pytest.mark.parametrize(
    ("capacity", "allocatable", "stage"),
    [(None, None, Stage.CLEAN), ("162", "162", Stage.OFFERED), ("162", "0", Stage.KEPT), ("0", "0", Stage.DEAD)],
)
def test_stages(capacity, allocatable, stage):
    assert stale_resources(node(capacity, allocatable)).stage is stage


def test_a_silent_kubelet_cannot_forget_but_zeros_can_go():
    assert stale_resources(node("162", "162", ready=False)).stage is Stage.SILENT
    assert stale_resources(node("0", "0", ready=False)).stage is Stage.DEAD


def test_only_our_keys_at_0_are_removed_each_tested_first():
    foreign = {"nvidia.com/gpu": "0", "sgx.intel.com/enclave": "1024"}
    made = node("0", "0", resources=foreign)
    paths = [f"/status/{part}/kubernetes.azure.com~1sgx_epc_mem_in_MiB" for part in ("capacity", "allocatable")]
    assert removal(made) == [
        step for path in paths for step in ({"op": "test", "path": path, "value": "0"}, {"op": "remove", "path": path})
    ]


def test_a_node_settles_a_while_after_it_was_seen_with_a_key():
    dirty, clean = [StaleResources("a", Stage.DEAD, (EPC,))], [StaleResources("a", Stage.CLEAN, ())]
    watch = Settling().after(dirty, 0)
    assert not watch.settled(dirty, 100)
    assert not watch.settled(clean, SETTLED_SECONDS - 1)
    assert watch.settled(clean, SETTLED_SECONDS)
    assert Settling().settled(clean, 0)
    assert not watch.after(dirty, 50).settled(clean, SETTLED_SECONDS + 49)


ENCLAVE = "sgx.intel.com/enclave"


@pytest.mark.parametrize("count", ["0", "110"])
def test_a_node_with_others_names_is_clean_unless_it_was_ours(count):
    made = node(None, None, resources={ENCLAVE: count})
    assert stale_resources(made, passed=1000) == StaleResources("a", Stage.CLEAN, ())
    stage = Stage.OFFERED if int(count) else Stage.DEAD
    assert stale_resources(made, ours=True) == StaleResources("a", stage, (ENCLAVE,))


def test_what_is_offered_long_after_our_plugins_end_is_anothers():
    made = node("0", "0", resources={ENCLAVE: "110"})
    assert stale_resources(made) == StaleResources("a", Stage.OFFERED, (EPC, ENCLAVE))
    for one, found in (
        (made, StaleResources("a", Stage.DEAD, (EPC,), (ENCLAVE,))),
        (node("162", "162"), StaleResources("a", Stage.CLEAN, (), (EPC,))),
        (node("162", "0", resources={ENCLAVE: "110"}), StaleResources("a", Stage.KEPT, (EPC,), (ENCLAVE,))),
        (node("162", "162", ready=False), StaleResources("a", Stage.SILENT, (EPC,))),
    ):
        assert stale_resources(one, passed=FOREIGN_AFTER_SECONDS) == found


def test_a_name_whose_devices_are_all_ill_is_not_removed():
    made = node("0", "0", resources={ENCLAVE: "110"})
    made["status"]["allocatable"][ENCLAVE] = "0"
    assert not [step for step in removal(made) if "enclave" in step["path"]]


def by_controller(made, *names, manager="confcom-controller"):
    """The node, of which the controller has written these resources last."""
    fields = {"f:status": {part: {f"f:{name}": {} for name in names} for part in ("f:capacity", "f:allocatable")}}
    made["metadata"]["managedFields"] = [{"manager": manager, "subresource": "status", "fieldsV1": fields}]
    return made


@pytest.mark.parametrize("passed", [0, FOREIGN_AFTER_SECONDS])
def test_only_the_controllers_keys_are_removed_at_once(passed):
    made = by_controller(node("131066", "131066", resources={ENCLAVE: "1024"}), EPC, "example.com/other")
    made["status"]["capacity"]["example.com/other"] = "1"
    assert written(made) == {EPC}
    found = stale_resources(made, passed=passed)
    assert found.stage is Stage.WRITTEN
    assert EPC in found.names
    assert [step["path"].rpartition("/")[2] for step in removal(made)] == [EPC.replace("/", "~1")] * 4
    assert {step["op"] for step in removal(made)} == {"test", "remove"}


def test_what_somebody_else_wrote_is_not_the_controllers():
    assert written(by_controller(node("162", "162"), EPC, manager="kubelet")) == frozenset()


def test_once_it_is_removed_the_rest_is_the_kubelets():
    made = by_controller(node(None, None, resources={"confcom.internal/quote_helper_epc_mem_in_MiB": "6"}), EPC)
    assert stale_resources(made).stage is Stage.OFFERED
