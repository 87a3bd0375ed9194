"""When waiting for the daemons is given up."""

from datetime import UTC, datetime, timedelta

import pytest

from confcom.addon.daemons.daemon_pods import REVISION_LABEL, daemon_pods
from confcom.addon.rollout.rollout import STUCK_SECONDS, NodeStep, Rollout, Step, Verdict, evaluate, rollout, updating
from confcom.addon.rollout.snapshot import Snapshot
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

DEADLINE = 100.0
WAITING, STALLED, DONE = Verdict.WAITING, Verdict.STALLED, Verdict.DONE
OLD, NEW = "1", "2"
ENDS = "ends"
OWNER = ("DaemonSet", "confcom-quote-helper")


def helper(number, template=NEW, status=None):
    """One of several pods on one node."""
    labels = make.labels("quote-helper") | {REVISION_LABEL: template}
    return make.pod(f"p{number}", namespace=SYSTEM, on="a", owner=OWNER, labels=labels, status=status)


def step(node="a", kind=Step.QUOTE_HELPER, *, done=False, failing=False, pod="1"):
    return NodeStep(node, kind, done, "", failing=failing, pod=pod)


def state(*steps, problems=(), observed=True):
    return Rollout(steps, problems, observed)


def verdicts(*looks):
    """Each look is a time and what was seen."""
    watch, found = None, []
    for now, seen in looks:
        watch, verdict = evaluate(watch, seen, now, deadline=DEADLINE)
        found.append(verdict)
    return found


def test_when_it_is_done_or_given_up():
    assert verdicts((0, state(step(done=True)))) == [DONE]
    assert verdicts((0, state())) == [DONE]
    assert verdicts((0, state(step(done=True), observed=False))) == [WAITING]
    assert verdicts((0, state(step(done=True), problems=("x",)))) == [WAITING]
    assert verdicts((0, state(step())), (99, state(step())), (100, state(step()))) == [WAITING, WAITING, STALLED]


def test_every_node_that_is_done_gives_more_time():
    one, both = state(step("a", done=True), step("b")), state(step("a", done=True), step("b", done=True))
    neither = state(step("a"), step("b"))
    assert verdicts((0, neither), (90, one), (180, one), (189, both)) == [WAITING, WAITING, WAITING, DONE]
    assert verdicts((0, neither), (90, one), (190, one))[-1] is STALLED


def test_a_step_counts_again_by_the_new_pod():
    old, none, new = (
        state(step(done=done, pod=pod), step("b")) for done, pod in ((True, "1"), (False, "2"), (True, "2"))
    )
    assert verdicts((0, old), (90, none), (95, new), (190, new))[-1] is WAITING


def test_what_flips_is_no_progress():
    on, off = state(step(done=True), step("b")), state(step(), step("b"))
    assert verdicts((0, off), (10, on), (60, off), (90, on), (110, on))[-1] is STALLED


def test_a_pod_that_fails_is_given_less_time_unless_it_recovers():
    failing, well = state(step(failing=True)), state(step())
    assert verdicts((0, failing), (STUCK_SECONDS, failing)) == [WAITING, STALLED]
    assert verdicts((0, failing), (30, well), (35, failing), (STUCK_SECONDS + 30, failing))[-1] is WAITING


@pytest.mark.parametrize(
    ("statuses", "observed"),
    [
        ([make.rejected(), make.running()], True),
        ([make.rejected(), make.rejected(), make.running()], True),
        ([make.rejected(), make.not_ready()], False),
        ([make.rejected()], False),
        ([make.running()], False),
    ],
)
def test_a_rejected_pod_does_not_hide_the_ready_one(statuses, observed):
    daemon = make.daemon_set("quote-helper")
    daemon["status"] = {"observedGeneration": 1, "desiredNumberScheduled": 1, "updatedNumberScheduled": 1}
    pods = tuple(helper(number, status=status) for number, status in enumerate(statuses))
    assert rollout(Snapshot(SYSTEM, pods=pods, daemon_sets=(daemon,))).observed == observed


def helpers(*pods):
    """On one node, the older ones first, each of one template; one that ends keeps its status."""
    made = [helper(number, template) for number, (template, *_) in enumerate(pods)]
    for pod, (_, *status) in zip(made, pods, strict=True):
        if status == [ENDS]:
            pod["metadata"]["deletionTimestamp"] = "2026-11-25T00:00:00Z"
        elif status:
            pod["status"] = status[0]
    return daemon_pods(made)


def counted(*, generation=1, observed=1, desired=1, current=1, updated=1):
    """A DaemonSet as its controller counts: a node by its oldest pod, and none that has no pod."""
    daemon = make.daemon_set("quote-helper")
    daemon["metadata"]["generation"] = generation
    daemon["status"] = {
        "observedGeneration": observed,
        "desiredNumberScheduled": desired,
        "currentNumberScheduled": current,
        "updatedNumberScheduled": updated,
    }
    return daemon


@pytest.mark.parametrize(
    ("daemon", "pods", "off", "going_on"),
    [
        (counted(generation=2), [(OLD,)], False, True),
        (counted(), [(NEW,)], False, False),
        (counted(), [(NEW, make.not_ready())], False, False),
        (counted(), [(NEW, make.not_ready())], True, False),
        (counted(current=0, updated=0), [], False, False),
        (counted(desired=2, current=2), [(NEW,)], False, True),
        # The new one beside the old one, which serves, ends, or cannot end since its node is off.
        (counted(updated=0), [(OLD,), (NEW, make.not_ready())], False, True),
        (counted(updated=0), [(OLD, ENDS), (NEW,)], False, True),
        (counted(updated=0), [(OLD, ENDS), (NEW, make.not_ready())], True, False),
        # On a node that is off, the update has not come to these.
        (counted(updated=0), [(OLD, make.not_ready()), (NEW, make.unschedulable("x"))], True, True),
        (counted(updated=0), [("0", ENDS), (OLD, make.not_ready()), (NEW, make.not_ready())], True, True),
        (counted(desired=2, current=2, updated=0), [(OLD, ENDS), (NEW, make.not_ready())], True, True),
        # All of it is of the newest template: the count is right already.
        (counted(desired=2, current=2), [(NEW, ENDS), (NEW, make.not_ready())], True, True),
    ],
)
def test_an_update_goes_on_while_old_pods_are_left(daemon, pods, off, going_on):
    assert updating([daemon], helpers(*pods), {"a"} if off else set()) is going_on


def told(*pods, newest="2"):
    """The step of a helper's pods, the older ones first, each with its template's revision."""
    daemon = make.daemon_set("quote-helper")
    daemon["status"] = {"observedGeneration": 1, "desiredNumberScheduled": 1}
    revision = make.pod("r", owner=OWNER, labels={REVISION_LABEL: newest}) | {"revision": 2}
    made = tuple(helper(number, *pod) for number, pod in enumerate(pods))
    (step,) = rollout(Snapshot(SYSTEM, pods=made, daemon_sets=(daemon,), revisions=(revision,))).steps
    return step


@pytest.mark.parametrize(
    ("pods", "says_why", "serving"),
    [
        ([("2", make.rejected("x"))], True, False),
        ([("2", make.rejected("older")), ("2", make.rejected("x"))], True, False),
        ([("1", make.rejected("x"))], True, False),
        ([("1", make.running()), ("2", make.rejected("x"))], True, True),
        ([("1", make.rejected("x")), ("1", make.running())], False, True),
        ([("2", make.rejected("x")), ("2", make.waiting("ContainerCreating"))], False, False),
    ],
)
def test_a_rejected_pod_says_why_if_there_is_no_other(pods, says_why, serving):
    step = told(*pods)
    assert (step.text == "rejected: UnexpectedAdmissionError: x") is says_why
    assert ("rejected" in step.text) is says_why
    assert (step.done, step.serving) == (False, serving)


AT_NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def stamp(seconds):
    return (AT_NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def refused(seconds, *, name="confcom-quote-helper", reason="FailedCreate"):
    return make.event(name, reason, "exceeded quota", at=stamp(seconds))


@pytest.mark.parametrize(
    ("daemon", "events", "why"),
    [
        (counted(updated=0), [refused(10)], "FailedCreate"),
        (counted(updated=0), [refused(3600), refused(3601, reason="FailedDaemonPod")], "FailedCreate"),
        (counted(updated=0), [refused(9)], ""),
        (counted(updated=0), [refused(99, reason="FailedDaemonPod")], ""),
        (counted(updated=0), [refused(99, name="other")], ""),
        (counted(), [refused(99)], ""),
        (counted(desired=2), [refused(99, reason="FailedDaemonPod")], "FailedDaemonPod"),
    ],
    ids=["as the last pod", "later", "a pod came since", "other warning", "of another", "finished", "no pod yet"],
)
def test_refused_pods_say_why(daemon, events, why):
    pod = helper(1)
    pod["metadata"]["creationTimestamp"] = stamp(10)
    seen = Snapshot(SYSTEM, pods=(pod,), daemon_sets=(daemon,), events=tuple(events))
    problems = rollout(seen).problems
    assert [problem.text.endswith(f"{why}: exceeded quota") for problem in problems] == [True] * bool(why)
    assert {problem.code for problem in problems} <= {"pods-not-created"}
