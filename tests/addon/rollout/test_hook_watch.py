"""What is made of looks at helm's Job, which tries three times."""

import pytest

from confcom.addon.rollout.hook_job import HookWatch
from confcom.addon.rollout.rollout import STUCK_SECONDS
from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

JOB = "confcom-simulated-root-1"
NO_IMAGE = make.waiting("ErrImagePull", "no such image")


def job(uid="1", *, failed=False):
    made = make.failed_hook(JOB, "BackoffLimitExceeded", "it failed")
    made["metadata"]["uid"] = uid
    return made if failed else made | {"status": {}}


def pod(name, status, at, uid="1"):
    made = make.pod(
        name, namespace=SYSTEM, owner=("Job", JOB), labels=make.labels("simulated-root", instance=""), status=status
    )
    made["metadata"]["creationTimestamp"] = f"2026-11-25T00:00:{at:02}Z"
    made["metadata"]["ownerReferences"][0]["uid"] = uid
    return made


def watched(*looks):
    """Looks of this many seconds apart."""
    watch = HookWatch()
    for now, objects in looks:
        watch = watch.after(objects, now)
    return watch


def test_a_pod_that_cannot_start_is_told_and_given_up():
    look = [pod("a", NO_IMAGE, 0), job()]
    watch = watched((0, look), (STUCK_SECONDS - 1, look))
    (reason,) = watch.failure_reasons
    assert JOB in reason
    assert reason.endswith("ErrImagePull: no such image")
    assert watch.stuck_jobs(STUCK_SECONDS - 1) == ()
    assert watch.stuck_jobs(STUCK_SECONDS) == (JOB,)


def test_a_second_pod_that_runs_well_is_not_ended_for_the_first():
    first = pod("a", make.rejected("it ended with 1", "Error"), 0)
    watch = watched((0, [first, job()]), (90, [pod("b", make.running(), 20), first, job()]))
    assert [row.text for row in watch.rows] == ["ready"]
    assert watch.stuck_jobs(90) == ()
    assert "it ended with 1" in watch.failure_reasons[0]  # if the second is too slow, this is why
    again = watched((0, [first, job()]), (20, [pod("b", NO_IMAGE, 20), first, job()]))
    assert "ErrImagePull" in again.failure_reasons[0]


@pytest.mark.parametrize(
    "later", [[], [pod("b", {"phase": "Succeeded"}, 20), job()], [pod("a", make.rejected(), 0), job(uid="2")]]
)
def test_a_job_that_succeeded_or_was_replaced_says_nothing(later):
    watch = watched((0, [pod("a", make.rejected(), 0), job()]), (20, later))
    assert (watch.rows, watch.failure_reasons, watch.failing_since) == ((), (), {})


def test_an_earlier_changes_job_is_nobodys_business():
    old = [pod("a", NO_IMAGE, 0), job(failed=True)]
    watch = watched((0, old), (90, old))
    assert (watch.rows, watch.failure_reasons, watch.stuck_jobs(90)) == ((), (), ())


def test_what_a_job_told_before_it_failed_is_kept():
    watch = watched((0, [pod("a", NO_IMAGE, 0), job()]), (90, [job(failed=True)]))
    assert "ErrImagePull" in watch.failure_reasons[0]
    assert watch.stuck_jobs(90) == ()


def test_a_program_that_ended_is_told_with_its_last_words():
    said = "INFO starting\nError: the Secret cannot be made\n  why: it is forbidden\n  do: ask somebody\n"
    ended = {"state": {"terminated": {"exitCode": 6, "reason": "Error", "message": said}}}
    watch = watched((0, [pod("a", {"phase": "Failed", "containerStatuses": [ended]}, 0), job()]))
    (reason,) = watch.failure_reasons
    assert reason.endswith("exit code 6: Error: the Secret cannot be made why: it is forbidden do: ask somebody")
