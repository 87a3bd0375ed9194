import pytest

from confcom.addon import readiness
from confcom.addon.api import ClusterAccessError, ForbiddenError
from confcom.addon.command import Mark, Row
from confcom.addon.readiness import MAX_STEPS, NOT_CREATED, NOT_SHOWN, STUCK_SECONDS, NotReadyError
from testkit import cluster_objects as make
from testkit.cluster_objects import EPC, SYSTEM
from testkit.fake_cluster import FakeCluster

TIMEOUT = 100.0
POLL_SECONDS = 5.0


@pytest.fixture(autouse=True)
def _few_polls(monkeypatch):
    monkeypatch.setattr(readiness, "POLL_SECONDS", POLL_SECONDS)


def waiter(objects, changes=()):
    made, due = FakeCluster(objects), dict(changes)
    made.kubelets.report = lambda _: None

    def change():
        for when in [one for one in due if one <= made.time]:
            due.pop(when)(made.api)

    made.each = change
    return made


def wait(made, until_gone=NOT_CREATED | NOT_SHOWN):
    return readiness.wait_until_ready(made.add_on(), timeout=TIMEOUT, until_gone=until_gone)


def error_of(made):
    with pytest.raises(NotReadyError) as caught:
        wait(made)
    return caught.value


def put(*objects):
    return lambda memory: [memory.put(one) for one in objects]


def gone(kind, name):
    return lambda memory: memory.remove(kind, name, SYSTEM)


NODES = [make.node(name, make.SIMULATED, resources={EPC: 162}) for name in "ab"]
ADD_ON = [one for one in make.installed("a", "b") if one["kind"] != "Pod"]
PLUGINS = [make.daemon("device-plugin", name) for name in "ab"]
HELPERS = [make.daemon("quote-helper", name) for name in "ab"]
BROKEN = make.waiting("ImagePullBackOff", "no image")
OF_CONTROLLER = {"name": "confcom-controller", "namespace": SYSTEM, "labels": make.labels("controller")}
STARTING = {
    "kind": "Deployment",
    "metadata": OF_CONTROLLER | {"generation": 1},
    "spec": {"replicas": 1},
    "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1},
}
STARTED = STARTING | {"status": STARTING["status"] | {"availableReplicas": 1}}
NO_EPC = make.node("a", make.SIMULATED)
AWAY = make.node("b", make.SIMULATED, resources={EPC: 162}, ready=False)
ALL = [*ADD_ON, *PLUGINS, *HELPERS]
TEMPLATES = [one for one in ALL if one["kind"] == "ControllerRevision"]
UNSEEN = [one for one in ALL if one not in TEMPLATES]


@pytest.mark.parametrize(
    ("objects", "change"),
    [
        (ALL, None),
        ([*ADD_ON, *PLUGINS, HELPERS[0]], put(HELPERS[1])),
        ([*ALL, NO_EPC], put(NODES[0])),
        ([*ALL, STARTING], put(STARTED)),
        ([*ADD_ON, *PLUGINS, HELPERS[0], AWAY], put(NODES[1], HELPERS[1])),
        ([*ALL, AWAY], None),
        ([], put(*ALL)),
        (UNSEEN, put(*TEMPLATES)),
        ([make.daemon_set("device-plugin"), make.daemon_set("quote-helper")], None),
        ([*ALL, make.node("c", make.SIMULATED, taints=[{"key": "x", "effect": "NoSchedule"}])], None),
    ],
)
def test_it_waits_until_everything_is_ready(objects, change):
    cluster = waiter(objects, {20.0: change} if change else {})
    assert wait(cluster).enabled
    assert (cluster.time >= 20.0) is (change is not None)
    assert all(row.mark is Mark.DONE for row in cluster.recorder.rows[-1])
    assert not change or any(row.mark is not Mark.DONE for row in cluster.recorder.rows[0])


@pytest.mark.parametrize("epc", [{}, {EPC: 0}], ids=["never shown", "lost since"])
def test_a_change_ends_before_the_kubelet_reports_and_a_status_after(epc):
    for until_gone, waits in ((NOT_CREATED, False), (NOT_CREATED | NOT_SHOWN, True)):
        cluster = waiter([*ALL, make.node("a", make.SIMULATED, resources=epc)], {20.0: put(NODES[0])})
        wait(cluster, until_gone)
        assert (cluster.time >= 20.0) is waits
        assert all(row.mark is Mark.DONE for row in cluster.recorder.rows[-1])


OLD = [make.daemon("quote-helper", "a", name="old")]
NEW = [make.daemon("quote-helper", "a", revision="2", name="new", created="2026-11-25T00:01:00Z", status=BROKEN)]
UPDATE = [*ADD_ON[2:], make.node("a", make.SIMULATED, resources={EPC: 162}), PLUGINS[0], *OLD, *NEW]
UPDATE.append(make.revision("quote-helper", 2))
REFUSED = make.event("confcom-quote-helper", "FailedCreate", "exceeded quota")
NO_NODES = [*map(make.daemon_set, ("device-plugin", "quote-helper")), REFUSED, make.revision("quote-helper")]
FAILING = make.pod("controller-1", namespace=SYSTEM, labels=make.labels("controller"), status=BROKEN)


BLOCKED = {
    "a Pod lacks": ([*ADD_ON, *PLUGINS, HELPERS[0]], TIMEOUT, ["not ready on b", "quote helper no Pod yet"]),
    "a node is away": ([*ADD_ON, *PLUGINS, HELPERS[0], AWAY], TIMEOUT, ["bring b back", "delete node b"]),
    "an update fails": (UPDATE, STUCK_SECONDS, ["old one keeps serving", "no image", "confcom rollback"]),
    "no EPC": ([*ALL, NO_EPC], TIMEOUT, ["not ready", "a: the device plugin offers EPC"]),
    "quota": ([*ADD_ON, *PLUGINS, REFUSED], TIMEOUT, ["exceeded quota"]),
    "quota, and no nodes": (NO_NODES, TIMEOUT, ["the add-on is not ready", "exceeded quota"]),
    "the controller starts": ([*ALL, STARTING], TIMEOUT, ["Deployment controller"]),
    "the controller fails": ([*ALL, STARTING, FAILING], STUCK_SECONDS, ["no image"]),
    "the controller starts, and no EPC": ([*ALL, STARTING, NO_EPC], TIMEOUT, ["a: the device plugin offers EPC"]),
    "nothing is installed": ([], TIMEOUT, [SYSTEM]),
}


@pytest.mark.parametrize(("objects", "seconds", "words"), BLOCKED.values(), ids=BLOCKED)
def test_without_progress_the_error_says_where_and_why(objects, seconds, words):
    cluster = waiter(objects)
    error = error_of(cluster)
    assert error.error_code == ("daemons-not-ready" if objects else "not-enabled")
    assert seconds <= cluster.time <= seconds + 2 * POLL_SECONDS
    assert all(word in f"{error.what} {error.why} {error.remedy}" for word in words)


def test_of_many_open_steps_the_error_names_some_and_counts_the_others():
    names = [f"n{number:03}" for number in range(30)]
    nodes = [make.node(name, make.SIMULATED, resources={EPC: 162}) for name in names]
    others = [one for one in make.installed(*names) if one["kind"] not in {"Node", "Pod"}]
    plugins = [make.daemon("device-plugin", name) for name in names]
    named, _, more = error_of(waiter([*nodes, *others, *plugins])).why.rpartition("; ")
    assert int(more.removesuffix(" more")) + named.count("no Pod yet") == len(names)


def test_every_step_that_is_done_gives_more_time_and_one_that_flips_does_not():
    late = {80.0: put(HELPERS[0]), 160.0: put(HELPERS[1])}
    cluster = waiter([*ADD_ON, *PLUGINS], late)
    wait(cluster)
    assert cluster.time >= 160.0
    flips = {80.0: gone("Pod", "quote-helper-a"), 90.0: put(HELPERS[0])}
    cluster = waiter([*ADD_ON, *PLUGINS, HELPERS[0]], flips)
    assert error_of(cluster).error_code == "daemons-not-ready"
    assert cluster.time < 110.0


def test_a_pod_that_fails_and_recovers_is_given_its_time_again():
    broken = make.daemon("quote-helper", "b", status=BROKEN)
    starting = make.daemon("quote-helper", "b", status=make.waiting("ContainerCreating"))
    cluster = waiter([*ADD_ON, *PLUGINS, HELPERS[0], broken], {30.0: put(starting), 35.0: put(broken)})
    error_of(cluster)
    assert STUCK_SECONDS + 35 <= cluster.time <= STUCK_SECONDS + 35 + 2 * POLL_SECONDS


def test_in_a_large_cluster_a_table_has_a_count_and_a_few_steps():
    names = [f"n{number:03}" for number in range(200)]
    objects = [one for one in make.installed(*names) if one["metadata"]["name"] != "quote-helper-n007"]
    cluster = waiter(objects, {5.0: put(make.daemon("quote-helper", "n007"))})
    wait(cluster)
    assert len(cluster.recorder.rows[0]) < MAX_STEPS
    assert [row.text for row in cluster.recorder.rows[0]] == ["399 of 400 steps are done", "no Pod yet"]


@pytest.mark.parametrize(("first", "answers"), [(ClusterAccessError, True), (ForbiddenError, False)])
def test_a_refusal_is_final_unless_the_api_server_has_just_started(first, answers):
    failures, said = [first("x", why="away"), ForbiddenError("x")], []

    def ask():
        if failures:
            raise failures.pop(0)
        return "answer"

    cluster = waiter([])

    def retried():
        return readiness.retry_while_unreachable(cluster.add_on(), ask, said.extend, timeout=TIMEOUT)

    if answers:
        assert (retried(), said) == ("answer", [Row("API server", "away", Mark.BAD)])
    else:
        with pytest.raises(ForbiddenError):
            retried()
