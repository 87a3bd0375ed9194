"""The requests to the API server, against answers as it gives them."""

import json
from collections.abc import Callable

import httpx2
import pytest

from confcom.controller.api_server.cluster_api import connect
from confcom.controller.api_server.errors import ConflictError, ExpiredError, RefusedError, UnreadableError
from confcom.controller.api_server.paced_watches import PacedWatches
from confcom.controller.limits_and_deadlines import PAGE
from confcom.controller.reconcile.reading import MANAGER
from confcom.errors import SettingsError, UnavailableError
from testkit.controller import EPC, KUBECONFIG, api_of
from testkit.raised import raises

Handler = Callable[[httpx2.Request], httpx2.Response]


def api(handler):
    return api_of(httpx2.MockTransport(handler))


def status(code):
    return httpx2.Response(code, json={"kind": "Status", "code": code, "message": "because"})


def page(names, more=""):
    items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names]
    return {"metadata": {"resourceVersion": "7", "continue": more}, "items": items}


async def test_lists_are_taken_in_pages():
    asked: list[httpx2.URL] = []

    def answer(request):
        asked.append(request.url)
        return httpx2.Response(200, json=page(["b"]) if "continue" in request.url.params else page(["a"], "token"))

    names: list[str] = []
    assert await api(answer).nodes.list(lambda node: names.append(node["metadata"]["name"])) == "7"
    assert names == ["a", "b"]
    assert [url.params["limit"] for url in asked] == [str(PAGE)] * 2
    assert {url.path for url in asked} == {"/api/v1/nodes"}


async def test_only_bound_pods_that_have_not_ended_are_asked_for():
    asked: list[httpx2.URL] = []

    def answer(request):
        asked.append(request.url)
        return status(403) if "watch" in request.url.params else httpx2.Response(200, json=page([]))

    cluster = api(answer)
    await cluster.pods.list(lambda _: None)
    with pytest.raises(RefusedError):
        await anext(cluster.pods.watch("7"))
    await cluster.read_pods("n1", lambda _: None)
    assert {url.path for url in asked} == {"/api/v1/pods"}
    selectors = [sorted(url.params["fieldSelector"].split(",")) for url in asked]
    ended = ["status.phase!=Failed", "status.phase!=Succeeded"]
    assert selectors == [["spec.nodeName!=", *ended], ["spec.nodeName!=", *ended], ["spec.nodeName=n1", *ended]]
    assert asked[1].params["resourceVersion"] == "7"


async def test_a_watch_gives_events_until_its_version_is_too_old():
    lines = [
        {"type": "MODIFIED", "object": {"metadata": {"name": "a", "resourceVersion": "8"}}},
        {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}},
    ]
    body = "\n".join(map(json.dumps, lines))
    events = api(lambda _: httpx2.Response(200, text=body)).nodes.watch("7")
    event, node = await anext(events)
    assert (event, node["metadata"]["resourceVersion"]) == ("MODIFIED", "8")
    with pytest.raises(ExpiredError):
        await anext(events)


async def test_a_watch_that_is_cut_within_an_event_is_unavailable():
    events = api(lambda _: httpx2.Response(200, text='{"type": "MODIF')).nodes.watch("7")
    with pytest.raises(UnreadableError):
        await anext(events)


async def test_a_status_is_changed_by_a_merge_patch():
    asked: list[httpx2.Request] = []

    def answer(request):
        asked.append(request)
        return httpx2.Response(200, json={"metadata": {"name": "n1"}})

    patch = {"status": {"capacity": {"example.com/epc": None}}}
    await api(answer).patch_node_status("n1", patch)
    assert (asked[0].method, asked[0].url.path) == ("PATCH", "/api/v1/nodes/n1/status")
    assert asked[0].headers["Content-Type"] == "application/merge-patch+json"
    assert asked[0].url.params["fieldManager"] == MANAGER
    assert json.loads(asked[0].content) == patch


async def test_an_event_is_created_where_events_of_nodes_are():
    asked: list[httpx2.Request] = []

    def answer(request):
        asked.append(request)
        return httpx2.Response(201, json=json.loads(request.content))

    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "n.1", "namespace": "default"}, "count": 1}
    await api(answer).post_event(event)
    assert (asked[0].method, asked[0].url.path) == ("POST", "/api/v1/namespaces/default/events")
    assert json.loads(asked[0].content) == event


@pytest.mark.parametrize(
    ("code", "error", "error_code"),
    [
        (409, ConflictError, "object-changed"),
        (404, ConflictError, "object-changed"),
        (410, ExpiredError, "watch-expired"),
        (403, RefusedError, "api-server-refused"),
        (422, RefusedError, "api-server-refused"),
        (429, UnavailableError, "api-server-unavailable"),
        (500, UnavailableError, "api-server-unavailable"),
        (503, UnavailableError, "api-server-unavailable"),
    ],
)
async def test_answers_have_their_meaning(code, error, error_code):
    with pytest.raises(error) as raised:
        await api(lambda _: status(code)).patch_node_status("n1", {})
    assert raised.value.error_code == error_code


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(500, content=b"oops"),
        httpx2.Response(503, content=b"<html>", headers={"Content-Type": "application/json"}),
        httpx2.Response(500, content=b"[]", headers={"Content-Type": "application/json"}),
        httpx2.Response(502),
        httpx2.Response(200, text="<html>"),
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
    ],
)
async def test_no_answer_of_an_api_server_is_unavailable(answer):
    def give(_):
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(UnavailableError):
        await api(give).read_node("n1")
    if not isinstance(answer, httpx2.Response) or answer.status_code >= 500:
        with pytest.raises(UnavailableError) as raised:
            await api(give).patch_node_status("n1", {})
        assert raised.value.error_code == "api-server-unavailable"


def test_an_api_server_is_needed(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(KUBECONFIG | {"current-context": ""}))
    for kubeconfig in (path, None):
        with raises("no-api-server", SettingsError):
            connect(kubeconfig, (EPC,), {})


async def test_a_kubeconfigs_client_paces_its_watches(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(KUBECONFIG))
    found = connect(path, (EPC,))
    assert isinstance(found._connection._client._transport, PacedWatches)
    await found.close()
