"""What counts as left by a case on the cluster."""

from e2e.add_on import SIMULATED_LABEL
from e2e.leftovers import differences


def thing(kind, name, namespace="", labels=None, **spec):
    place = {"namespace": namespace} if namespace else {}
    return {"kind": kind, "metadata": {"name": name, "labels": labels or {}, **place}, "spec": spec}


BEFORE = [thing("Node", "a", labels={"zone": "1"}), thing("Namespace", "default"), thing("ClusterRole", "admin")]


def test_what_is_new_and_what_is_gone_is_named():
    taints = [{"key": "mine", "value": "yes", "effect": "NoSchedule"}]
    after = [
        thing("Node", "a", labels={"zone": "2"}, taints=taints),
        thing("Namespace", "default"),
        thing("PriorityClass", "high"),
        thing("Pod", "web", "default"),
    ]
    assert differences(BEFORE, after) == [
        "new: Node a, label zone=2",
        "new: Node a, taint mine=yes:NoSchedule",
        "new: Pod default/web",
        "new: PriorityClass high",
        "gone: ClusterRole admin",
        "gone: Node a, label zone=1",
    ]


def test_the_add_on_may_stay_and_a_namespace_that_goes_has_gone():
    going = thing("Namespace", "case-1")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    taints = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    after = [
        thing("Node", "a", labels={"zone": "1", SIMULATED_LABEL: "true"}, taints=taints),
        *BEFORE[1:],
        thing("Namespace", "confcom-system"),
        thing("ValidatingAdmissionPolicy", "confcom-provision"),
        thing("ClusterRole", "confcom-controller"),
        thing("Pod", "confcom-quote-helper-x", "confcom-system"),
        going,
        thing("Pod", "web", "case-1"),
    ]
    assert differences(BEFORE, after) == []
    assert differences(after, BEFORE) == []
