import itertools

import httpx2
import pytest

from confcom.addon.api import (
    EVENT,
    LEASE,
    MAX_PROBE_PAGE,
    NODE,
    POD,
    Api,
    ClusterAccessError,
    ForbiddenError,
    RefusedError,
)
from testkit import cluster_objects as make
from testkit.expected_errors import raises
from testkit.fake_api import FakeApi

RESOURCE = "confcom.internal/quote_helper_epc_mem_in_MiB"


def a_pod(name, namespace="default", **labels):
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1"}}


def a_node(name="n1", **capacity):
    return {"kind": "Node", "metadata": {"name": name}, "status": {"capacity": capacity or {RESOURCE: "0"}}}


def a_lease(namespace="default", **spec):
    metadata = {"name": "change", "namespace": namespace}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def names(objects):
    return [one["metadata"]["name"] for one in objects]


PODS = [a_pod("a", app="x", tier="1"), a_pod("b", app="y"), a_pod("c", "other", app="z"), a_pod("d", "other", app="x")]
EVENTS = [make.event("a", "FailedCreate", "quota"), make.event("b", "FailedMount", "no secret")]


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        pytest.param(POD, {}, ["a", "b", "c", "d"], id="all namespaces"),
        pytest.param(POD, {"namespace": "other"}, ["c", "d"], id="one namespace"),
        pytest.param(POD, {"labels": {"app": "x"}}, ["a", "d"], id="a label"),
        pytest.param(POD, {"labels": {"app": "x", "tier": "1"}}, ["a"], id="two labels"),
        pytest.param(EVENT, {"fields": {"reason": "FailedMount"}}, ["b.FailedMount"], id="a field"),
    ],
)
def test_lists_select_objects(kind, options, found):
    assert names(Api(FakeApi([*PODS, *EVENTS])).list(kind, **options)) == found


def test_lists_come_in_pages_and_name_each_objects_type():
    memory = FakeApi([a_node(f"n{index}") for index in range(600)])
    found = list(Api(memory).list(NODE))
    assert len(set(names(found))) == len(found) == 600
    assert {(one["apiVersion"], one["kind"]) for one in found} == {("v1", "Node")}
    assert memory.requests == [("GET", "/api/v1/nodes")] * 3


def test_objects_are_read_created_and_deleted():
    memory = FakeApi()
    api, pod = Api(memory), a_pod("a")
    assert api.get(POD, "a", "default") is None
    assert api.create(pod, dry_run=True) is True
    assert memory.find("Pod") == memory.writes == []
    assert api.create(pod) is True
    assert api.create(pod) is False
    assert api.get(POD, "a", "default")["spec"] == pod["spec"]
    assert api.delete(POD, "a", "default") is True
    assert api.delete(POD, "a", "default") is False


def test_an_object_is_replaced_only_in_the_version_that_was_read():
    memory = FakeApi([a_lease(holderIdentity="a")])
    api = Api(memory)
    first, second = (api.get(LEASE, "change", "default") for _ in range(2))
    assert api.replace(first | {"spec": {"holderIdentity": "b"}}) is True
    assert api.replace(second | {"spec": {"holderIdentity": "c"}}) is False
    assert memory.find("Lease")[0]["spec"] == {"holderIdentity": "b"}
    memory.remove("Lease", "change")
    assert api.replace(first) is False


OPERATIONS = {
    "list": lambda api: list(api.list(NODE)),
    "get": lambda api: api.get(NODE, "n1"),
    "create": lambda api: api.create(a_pod("new")),
    "replace": lambda api: api.replace(a_lease()),
    "merge": lambda api: api.merge(NODE, "n1", {}),
    "apply": lambda api: api.applied(a_lease(), "default"),
    "delete": lambda api: api.delete(NODE, "n1"),
    "patch of a status": lambda api: api.patch_node_status("n1", []),
    "review": lambda api: api.is_allowed({"verb": "get", "resource": "pods"}),
    "log": lambda api: api.log("a", "default"),
    "page": lambda api: api.probe_page("a", "default", "inventory"),
    "version": lambda api: api.server_version(),
    "watch": lambda api: list(api.watch_pods("default", "x", 1)),
}
HOOK, QUOTA = 'admission webhook "x" denied the request: no', 'pods "a" is forbidden: exceeded quota: q'
POD_SECURITY = 'pods "a" is forbidden: violates PodSecurity "baseline:latest": hostPath'
NOT_YET = 'pods "a" is forbidden: error looking up service account sgx/default: not found'
FAILURES = {
    "forbidden": (403, 'nodes is forbidden: User "eve" cannot', False, ForbiddenError, "forbidden"),
    "one object": (403, 'nodes "n1" is forbidden: User "eve" cannot', False, ForbiddenError, "forbidden"),
    "passing": (403, NOT_YET, False, ForbiddenError, "forbidden"),
    "webhook": (403, HOOK, False, RefusedError, "object-refused"),
    "pod security": (403, POD_SECURITY, False, RefusedError, "object-refused"),
    "quota": (403, QUOTA, False, RefusedError, "object-refused"),
    "invalid": (422, "spec.x: Invalid value", False, RefusedError, "object-invalid"),
    "server error": (500, "etcdserver: leader changed", False, ClusterAccessError, "cluster-request-failed"),
    "kubectl proxy": (502, "dial tcp: connection refused", True, ClusterAccessError, "cluster-request-failed"),
    "login": (401, "Unauthorized", False, ClusterAccessError, "cluster-request-failed"),
}


def everything():
    return FakeApi([a_node(), a_pod("a"), a_lease()], pages={("a", "inventory"): "{}"})


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_each_failure_of_each_operation_is_an_error_of_ours(operation, failure):
    status, message, plain, error, code = failure
    memory = everything()
    operation(Api(memory))
    memory.refuse(lambda _: True, status, message, plain=plain)
    with pytest.raises(ClusterAccessError) as caught:
        operation(Api(memory))
    assert (type(caught.value), caught.value.error_code) == (error, code)
    assert message in caught.value.why
    assert ("let-people-look" in caught.value.remedy) == (error is ForbiddenError)
    memory.accept()
    operation(Api(memory))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_refused_connection_is_an_error_of_ours(operation):
    memory = everything()
    memory.unreachable = True
    with raises("cluster-request-failed", ClusterAccessError) as caught:
        operation(Api(memory))
    assert "does not answer" in str(caught.value)
    assert ("networkPolicy.apiServer" in caught.value.why) is (operation is OPERATIONS["page"])


@pytest.mark.parametrize("name", sorted(OPERATIONS.keys() - {"delete", "log", "page"}))
def test_an_answer_that_is_not_the_api_servers_is_an_error_of_ours(name):
    memory = everything()
    memory.refuse(lambda _: True, 200, "<html>Please log in</html>", plain=True)
    with raises("answer-not-understood", ClusterAccessError):
        OPERATIONS[name](Api(memory))


MISSING = {
    "namespace": lambda api: api.create(a_lease("missing")),
    "object": lambda api: api.merge(POD, "x", {}, "default"),
    "Pod": lambda api: api.log("x", "default"),
    "page": lambda api: api.probe_page("a", "default", "x"),
}


@pytest.mark.parametrize("operation", MISSING.values(), ids=MISSING)
def test_what_is_missing(operation):
    with raises("cluster-request-failed", ClusterAccessError):
        operation(Api(FakeApi([a_pod("a")])))


def test_types_that_threads_decode_are_known_before(monkeypatch):
    """The interpreter crashes if two threads decode objects of the same type for the first time."""
    known = []
    monkeypatch.setattr("confcom.addon.api.msgspec.convert", lambda _, kind: known.append(kind.__name__))
    Api(FakeApi())
    assert {"ObjectMeta", "Status", "ListMetadata"} <= set(known)


def test_a_watch_ends_at_an_error_and_tells_who_goes():
    event = '{"type": "%s", "object": {"metadata": {"name": "%s"}}}\n'
    lines = [event % one for one in (("ADDED", "a"), ("DELETED", "b"), ("ERROR", "c"), ("ADDED", "d"))]
    asked = []

    def answer(request):
        asked.append(dict(request.url.params))
        return httpx2.Response(200, text="".join(lines))

    found = list(Api(httpx2.MockTransport(answer)).watch_pods("default", "confcom.internal/test", 7))
    assert [(one["metadata"]["name"], "deletionTimestamp" in one["metadata"]) for one in found] == [
        ("a", False),
        ("b", True),
    ]
    assert asked == [{"watch": "true", "labelSelector": "confcom.internal/test", "timeoutSeconds": "7"}]


class Endless(httpx2.SyncByteStream):
    """A body of a gigabyte; `sent` counts the bytes that the client took."""

    def __init__(self):
        self.sent = 0

    def __iter__(self):
        while self.sent < 1 << 30:
            self.sent += 1 << 16
            yield bytes(1 << 16)


@pytest.mark.parametrize(
    ("headers", "seconds", "most"),
    [({}, 0.0, MAX_PROBE_PAGE + (1 << 16)), ({"content-encoding": "gzip"}, 0.0, 0), ({}, 6.0, 1 << 17)],
    ids=["large", "compressed", "slow"],
)
def test_no_daemons_page_takes_more_than_its_bounds(headers, seconds, most):
    body, times = Endless(), itertools.count(0.0, seconds)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=body))
    with pytest.raises(ClusterAccessError):
        Api(transport, times.__next__).probe_page("a", "default", "platform")
    assert body.sent <= most


def test_only_the_page_readyz_is_read_although_the_status_is_503():
    api = Api(httpx2.MockTransport(lambda _: httpx2.Response(503, text="not ready: starting")))
    assert api.probe_page("a", "default", "readyz") == "not ready: starting"
    with pytest.raises(ClusterAccessError):
        api.probe_page("a", "default", "metrics")


@pytest.mark.parametrize(
    ("log", "end"),
    [
        (b"a\nb\n", ("a\nb\n", False)),
        (b"https://me:secret@proxy\nwhole\n", ("whole\n", True)),
        (b"no line ends here", ("", True)),
        (b"\xff\n", ("\ufffd\n", False)),
    ],
)
def test_of_a_long_log_only_whole_lines_of_its_end_are_kept(log, end):
    api = Api(httpx2.MockTransport(lambda _: httpx2.Response(200, content=log)))
    assert api.log_end("a", "default", "main", previous=False, most=12) == end
