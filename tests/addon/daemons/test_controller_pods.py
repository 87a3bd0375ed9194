"""Whether the controller of node capacity runs, and whether a change of it has come through."""

from dataclasses import replace

import pytest

from confcom.addon.daemons.controller_pods import UnfinishedChange, controller_problems, unfinished
from confcom.addon.rollout.rollout import STUCK_SECONDS, NodeStep, Rollout, Step, Verdict, evaluate, rollout
from confcom.addon.rollout.rollout_report import stalled
from confcom.addon.rollout.snapshot import Snapshot

HERE = "confcom-system"
LABELS = {"app.kubernetes.io/name": "confcom", "app.kubernetes.io/component": "controller"}


def pod(name="controller-1", *, ready=True, created="1", waiting="", **metadata):
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": HERE, "labels": LABELS, "creationTimestamp": created} | metadata,
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "controller", "state": state}],
        },
    }


def deployment(*, generation=2, observed=2, replicas=1, updated=1, total=1, available=1):
    return {
        "metadata": {"name": "confcom-controller", "namespace": HERE, "labels": LABELS, "generation": generation},
        "spec": {"replicas": replicas},
        "status": {
            "observedGeneration": observed,
            "updatedReplicas": updated,
            "replicas": total,
            "availableReplicas": available,
        },
    }


def plugin(support):
    args = [f"--capacity-support={support}"]
    return {"spec": {"template": {"spec": {"containers": [{"name": "device-plugin", "args": args}]}}}}


def codes(daemons, pods):
    return [problem.code for problem in controller_problems(daemons, pods, (), HERE)]


SUPPORTED = [plugin("supported")]
FAILING = pod("controller-2", ready=False, created="2", waiting="ErrImagePull")


@pytest.mark.parametrize(
    ("daemons", "pods", "expected"),
    [
        (SUPPORTED, [pod()], []),
        (SUPPORTED, [], ["controller-missing"]),
        (SUPPORTED, [pod(ready=False, waiting="ImagePullBackOff")], ["controller-not-ready"]),
        ([plugin("policy-off")], [], []),
        (SUPPORTED, [pod(deletionTimestamp="2026-11-28T10:00:00Z")], ["controller-missing"]),
        (SUPPORTED, [pod(namespace="other")], ["controller-missing"]),
        ([], [pod(), pod("controller-2", ready=False, created="2")], []),
        ([], [pod(), FAILING], ["controller-not-ready"]),
        ([], [pod(ready=False, waiting="CrashLoopBackOff"), pod("controller-2", created="2")], []),
    ],
    ids=[
        "runs",
        "none",
        "fails",
        "not needed",
        "ends",
        "elsewhere",
        "an older one serves",
        "new one fails",
        "old one fails",
    ],
)
def test_whether_there_is_one_that_works(daemons, pods, expected):
    assert codes(daemons, pods) == expected


@pytest.mark.parametrize(
    "state",
    [{"observed": 1}, {"updated": 0}, {"total": 2}, {"available": 0}],
)
def test_a_change_that_has_not_come_through(state):
    new = pod("controller-2", ready=False, created="2", waiting="CrashLoopBackOff")
    found = unfinished([deployment(**state)], [pod(), new], (), HERE)
    assert "CrashLoopBackOff" in found.why
    assert found.failing
    assert not unfinished([deployment(**state)], [pod()], (), HERE).failing


def test_a_change_that_has_come_through_and_other_deployments():
    assert unfinished([deployment()], [pod()], (), HERE) is None
    other = deployment(available=0)
    other["metadata"]["labels"] = {}
    assert unfinished([other], [], (), HERE) is None
    assert unfinished([], [], (), HERE) is None


def test_an_old_pod_that_fails_beside_a_new_one_is_no_failure():
    old, new = pod(ready=False, waiting="CrashLoopBackOff"), pod("controller-2", ready=False, created="2")
    assert not unfinished([deployment(total=2)], [old, new], (), HERE).failing
    assert not unfinished([deployment(total=2)], [old, pod("controller-2", created="2")], (), HERE).failing


def test_a_rollout_ends_early_if_the_controller_fails():
    broken = Snapshot(
        namespace=HERE, deployments=(deployment(available=0),), pods=(pod(ready=False, waiting="ImagePullBackOff"),)
    )
    starting = Snapshot(namespace=HERE, deployments=(deployment(available=0),), pods=(pod(ready=False),))
    for seen, verdict in ((broken, Verdict.STALLED), (starting, Verdict.WAITING)):
        tracker, first = evaluate(None, rollout(seen), 0.0, deadline=600.0)
        assert first is Verdict.WAITING
        assert evaluate(tracker, rollout(seen), STUCK_SECONDS, deadline=600.0)[1] is verdict
    error = stalled(rollout(broken), "")
    assert error.error_code == "controller-not-ready"
    assert "ImagePullBackOff" in error.why


def test_a_node_that_waits_for_the_controller_alone_is_told_so():
    epc = NodeStep("a", Step.EPC, done=False, text="not reported yet")
    plugin_step = NodeStep("a", Step.DEVICE_PLUGIN, done=True, text="ready")
    waits = UnfinishedChange("it is starting", failing=False)
    state = Rollout((plugin_step, epc), (), observed=True, controller=waits)
    assert stalled(state, "").error_code == "controller-not-ready"
    blocked = replace(plugin_step, done=False)
    assert stalled(replace(state, steps=(blocked, epc)), "").error_code == "daemons-not-ready"
