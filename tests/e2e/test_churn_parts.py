"""What the churn's ledger makes of a watch's changes, and when a kubelet may reject Pods."""

import pytest

from bench.cluster.watch import Change
from confcom.kubernetes.objects import KubernetesObject
from e2e.churn.ledger import Ledger, Rejection
from e2e.churn.strikes import ORDERS, Target
from e2e.churn.windows import Windows

EPC = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
HERE = "case-1"


def pod(name, mib, phase="Running", *, node="n1", namespace=HERE, restarts=0, reason="", going=False):
    metadata = {"name": name, "uid": name, "namespace": namespace, **({"deletionTimestamp": "now"} if going else {})}
    limits = {"resources": {"limits": {EPC: str(mib)}}}
    spec = {"containers": [limits], **({"nodeName": node} if node else {})}
    status = {"phase": phase, "reason": reason, "containerStatuses": [{"restartCount": restarts}]}
    return {"metadata": metadata, "spec": spec, "status": status}


@pytest.fixture
def ledger():
    return Ledger(HERE, {"n1": 100, "n2": 50})


@pytest.fixture
def tell(ledger):
    """Tells the ledger of changes, one second after the other."""

    def all_of(*changes: tuple[str, KubernetesObject]):
        for at, (kind, thing) in enumerate(changes):
            ledger.tell(Change(float(at), kind, thing))

    return all_of


def test_what_is_bound_and_has_not_ended_counts_in_every_namespace(ledger, tell):
    tell(
        ("ADDED", pod("waits", 90, "Pending", node="")),
        ("ADDED", pod("a", 60, "Pending")),
        ("ADDED", pod("b", 40, namespace="another")),
        ("ADDED", pod("elsewhere", 50, node="n2")),
        ("MODIFIED", pod("a", 60, "Succeeded")),
        ("MODIFIED", pod("waits", 60, "Pending")),
    )
    assert ledger.complaints == []
    assert dict(ledger.most) == {"n1": 100, "n2": 50}


def test_more_than_a_node_has_is_a_complaint(ledger, tell):
    tell(("ADDED", pod("a", 60)), ("ADDED", pod("b", 41, "Pending")))
    (told,) = ledger.complaints
    assert "101" in told


@pytest.mark.parametrize("kind", ["MODIFIED", "DELETED"])
def test_room_that_somebody_leaves_can_be_taken(ledger, tell, kind):
    gone = pod("a", 60, "Failed" if kind == "MODIFIED" else "Running")
    ledger.expect_deletion("a")
    tell(("ADDED", pod("a", 60)), (kind, gone), ("ADDED", pod("b", 100)))
    assert ledger.complaints == []


@pytest.mark.parametrize(
    "later",
    [
        ("MODIFIED", pod("a", 1, restarts=1)),
        ("MODIFIED", pod("a", 1, "Failed")),
        ("MODIFIED", pod("a", 1, going=True)),
        ("DELETED", pod("a", 1)),
    ],
    ids=["restarted", "failed", "about to be deleted", "deleted"],
)
def test_what_nobody_asked_for_is_a_loss_and_told_once(ledger, tell, later):
    tell(("ADDED", pod("a", 1)), later, later)
    assert len(ledger.complaints) == 1


def test_containers_that_are_created_again_until_the_pod_runs_are_counted(ledger, tell):
    tell(
        ("ADDED", pod("a", 1, "Pending", restarts=0)),
        ("MODIFIED", pod("a", 1, restarts=1)),
        ("MODIFIED", pod("a", 1, restarts=1)),
        ("ADDED", pod("b", 1)),
    )
    assert ledger.complaints == []
    assert ledger.created_again["n1"] == 1
    tell(("MODIFIED", pod("a", 1, restarts=2)))
    assert len(ledger.complaints) == 1


def test_a_pod_that_fails_and_never_ran_is_told_as_if_rejected(ledger, tell):
    tell(("ADDED", pod("a", 1, "Pending")), ("MODIFIED", pod("a", 1, "Failed")))
    assert [(one.pod, one.bound, one.told) for one in ledger.rejections] == [("a", 0.0, 1.0)]
    assert ledger.complaints == []


def test_what_becomes_of_a_pod_that_its_owner_deletes_is_no_loss(ledger, tell):
    tell(("ADDED", pod("a", 1)))
    ledger.expect_deletion("a")
    tell(("MODIFIED", pod("a", 1, going=True)), ("MODIFIED", pod("a", 1, "Failed")), ("DELETED", pod("a", 1)))
    assert ledger.complaints == []
    assert ledger.phases() == {}


@pytest.mark.parametrize("reason", ["UnexpectedAdmissionError", f"OutOf{EPC}"])
def test_a_rejection_is_told_with_its_moments_also_of_a_pod_that_is_to_go(ledger, tell, reason):
    ledger.expect_deletion("a")
    failed = pod("a", 1, "Failed", reason=reason)
    tell(
        ("ADDED", pod("a", 1, "Pending", node="")),
        ("MODIFIED", pod("a", 1, "Pending")),
        ("MODIFIED", failed),
        ("DELETED", failed),
    )
    (one,) = ledger.rejections
    assert (one.pod, one.node, one.bound, one.told) == ("a", "n1", 1.0, 2.0)
    assert one.why.startswith(reason)
    assert ledger.complaints == []


def test_a_watch_that_ends_is_a_complaint(ledger):
    ledger.end("the server is gone")
    assert len(ledger.complaints) == 1


def rejected(node, bound, told):
    return Rejection("a", node, bound, told, "UnexpectedAdmissionError")


def test_rejections_belong_to_the_windows_of_their_node_that_they_may_have_been_made_in():
    windows = Windows()
    windows.open("n1", "plugin killed", 10)
    windows.close("n1", 12)
    windows.open("n1", "kubelet killed", 20)
    windows.close("n2", 21)
    windows.close("n1", 25)
    windows.close("n1", 90)
    windows.add("n1", "plugin updated", 100, 100.5)
    moments = ((9, 11), (11, 30), (13.1, 14), (26, 27), (26.1, 28), (99, 99.9), (99, 100.1), (101.4, 102))
    made = [rejected("n1", *each) for each in moments]
    inside, outside = windows.sorted_out([*made, rejected("n2", 10, 11)])
    causes = ["plugin killed", "kubelet killed", "kubelet killed", "plugin updated", "plugin updated"]
    assert inside == list(zip(causes, (made[0], made[1], made[3], made[6], made[7]), strict=True))
    assert outside == [made[2], made[4], made[5], rejected("n2", 10, 11)]
    assert windows.seconds() == {"plugin killed": [2], "kubelet killed": [5], "plugin updated": [0.5]}


def test_every_order_is_one_of_all_three():
    assert len(set(ORDERS)) == 6
    assert all(set(order) == set(Target) for order in ORDERS)
