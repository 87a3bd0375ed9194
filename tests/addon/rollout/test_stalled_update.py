"""When an update stands still with every pod ready: nobody but the DaemonSet controller can go on with it."""

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from confcom.addon.daemons.daemon_pods import REVISION_LABEL
from confcom.addon.rollout.rollout import rollout
from confcom.addon.rollout.snapshot import Snapshot
from confcom.addon.rollout.stalled_update import QUIET_SECONDS, RECONCILE_ANNOTATION, StabilityTracker, stall_problems
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

OLD, NEW = "1", "2"
MIN_READY = 5
PATIENCE = MIN_READY + QUIET_SECONDS
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def stamp(seconds):
    return (NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def plugin(node, template, *, made=0, status=None, namespace=SYSTEM):
    one = make.pod(
        f"{node}-{template}",
        namespace=namespace,
        on=node,
        owner=("DaemonSet", "confcom-device-plugin"),
        labels=make.labels("device-plugin") | {REVISION_LABEL: template},
        status=status or make.running(),
    )
    one["metadata"]["creationTimestamp"] = stamp(made)
    one["status"].setdefault("conditions", [{}])[0]["lastTransitionTime"] = stamp(made + 1)
    return one


def ending(pod):
    pod["metadata"]["deletionTimestamp"] = stamp(2)
    return pod


def seen(*pods, off=(), current=3, updated=1, observed=2, events=()):
    daemon = make.daemon_set("device-plugin")
    daemon["metadata"] |= {"generation": 2, "resourceVersion": "77"}
    daemon["spec"]["minReadySeconds"] = MIN_READY
    daemon["status"] = {
        "observedGeneration": observed,
        "desiredNumberScheduled": current,
        "currentNumberScheduled": current,
        "updatedNumberScheduled": updated,
    }
    nodes = tuple(make.node(name, make.SIMULATED, ready=name not in off) for name in ("a", "b", "c"))
    return Snapshot(SYSTEM, nodes=nodes, pods=pods, daemon_sets=(daemon,), events=tuple(events))


SURGED = (plugin("a", NEW), plugin("b", OLD, made=-99), plugin("b", NEW, made=10), plugin("c", OLD, made=-99))
"""The old pod of b should have ended long ago."""
UNBEGUN = (plugin("a", NEW), plugin("b", OLD, made=-99), plugin("c", OLD, made=-99))
"""The new pod of b should have been made."""

BUSY = {
    "a pod starts": seen(*UNBEGUN, plugin("b", NEW, status=make.waiting("ContainerCreating"))),
    "a pod is not ready": seen(*UNBEGUN, plugin("b", NEW, status=make.not_ready())),
    "a pod fails": seen(*UNBEGUN, plugin("b", NEW, status=make.waiting("CrashLoopBackOff"))),
    "a pod was rejected": seen(*UNBEGUN, plugin("b", NEW, status=make.rejected())),
    "a pod ends": seen(plugin("a", NEW), ending(plugin("b", OLD)), plugin("b", NEW), plugin("c", OLD)),
    "a node is away": seen(*SURGED, off={"c"}),
    "the controller has not seen it": seen(*UNBEGUN, observed=1),
    "it is done": seen(plugin("a", NEW), plugin("b", NEW), plugin("c", NEW), updated=3),
    "another namespace's": dataclasses.replace(seen(*UNBEGUN), namespace="other"),
    "there are no pods": seen(),
}


def reconciled(*looks):
    """Each look is a time and what was seen; which DaemonSet is to be reconciled at which time."""
    watch, found = StabilityTracker(), []
    for now, what in looks:
        watch, stalled = watch.after(what, now)
        found += [(now, one.daemon_set, one.annotation) for one in stalled]
    return found


@pytest.mark.parametrize("pods", [SURGED, UNBEGUN], ids=["surged", "unbegun"])
def test_it_is_reconciled_after_its_patience_and_again_after_the_same(pods):
    looks = [(float(now), seen(*pods)) for now in range(0, 100, 5)]
    expected = ("confcom-device-plugin", f"{RECONCILE_ANNOTATION}=77")
    assert reconciled(*looks) == [(PATIENCE, *expected), (2 * PATIENCE, *expected)]


@pytest.mark.parametrize("what", BUSY.values(), ids=BUSY)
def test_what_waits_for_something_else_is_not_reconciled(what):
    assert reconciled((0.0, what), (1000.0, what)) == []
    assert list(stall_problems(what, NOON + timedelta(hours=1))) == []


@pytest.mark.parametrize("what", [seen(*UNBEGUN), BUSY["a pod starts"]], ids=["other pods", "a pod starts"])
def test_progress_begins_the_patience_anew(what):
    assert reconciled((0.0, seen(*SURGED)), (PATIENCE - 1, what), (PATIENCE, seen(*SURGED)), (PATIENCE + 1, what)) == []


def test_status_names_it_by_the_pods_own_times_with_the_command_that_has_it_reconciled():
    quiet = NOON + timedelta(seconds=11)  # when the newest pod became ready
    assert list(stall_problems(seen(*SURGED), quiet + timedelta(seconds=PATIENCE - 1))) == []
    (problem,) = stall_problems(seen(*SURGED), quiet + timedelta(seconds=PATIENCE))
    assert problem.code == "update-stalled"
    assert problem.text.endswith(
        "kubectl annotate daemonset confcom-device-plugin -n confcom-system --overwrite "
        "confcom.internal/reconcile-at-resource-version=77"
    )


def assert_stalled(what, warning):
    (problem,) = stall_problems(what, NOON + timedelta(hours=1))
    assert problem.code == "update-stalled"
    assert warning in problem.text


def refused_at(seconds, reason="FailedCreate"):
    return make.event("confcom-device-plugin", reason, "exceeded quota", at=stamp(seconds))


@pytest.mark.parametrize("when", [10, 11, 3600], ids=["as the last pod", "later", "much later"])
def test_a_controller_whose_pods_are_refused_acts_and_its_reason_is_told(when):
    what = seen(*SURGED, events=[refused_at(when), refused_at(when + 1, "FailedDaemonPod")])
    assert reconciled((0.0, what), (1000.0, what)) == []
    for problems in (stall_problems(what, NOON + timedelta(hours=1)), rollout(what).problems):
        (problem,) = problems
        assert problem.code == "pods-not-created"
        assert problem.text.endswith("FailedCreate: exceeded quota")


def test_a_pod_that_was_made_since_ends_a_refusal():
    what = seen(*SURGED, events=[refused_at(9)])
    assert [when for when, *_ in reconciled((0.0, what), (PATIENCE, what))] == [PATIENCE]
    assert_stalled(what, "FailedCreate: exceeded quota")
    assert rollout(what).problems == ()


def test_other_warnings_and_those_of_others_are_no_refusal():
    events = [refused_at(99, "FailedDaemonPod"), make.event("other", "FailedCreate", "x", at=stamp(99))]
    what = seen(*SURGED, events=events)
    assert [when for when, *_ in reconciled((0.0, what), (PATIENCE, what))] == [PATIENCE]
    assert_stalled(what, "FailedDaemonPod: exceeded quota")


def test_a_refusal_in_a_finished_update_is_past():
    what = seen(plugin("a", NEW), plugin("b", NEW), plugin("c", NEW), updated=3, events=[refused_at(99)])
    assert rollout(what).problems == ()
    assert list(stall_problems(what, NOON + timedelta(hours=1))) == []


@pytest.mark.parametrize("broken", ["", "yesterday", None])
def test_times_that_are_none_name_nothing(broken):
    pods = [plugin("a", NEW), plugin("b", OLD)]
    for pod in pods:
        pod["metadata"]["creationTimestamp"] = pod["status"]["conditions"][0]["lastTransitionTime"] = broken
    assert list(stall_problems(seen(*pods), NOON)) == []
