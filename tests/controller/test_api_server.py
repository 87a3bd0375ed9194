import asyncio
import json

import pytest

from confcom.controller import api_server as limits
from confcom.controller.api_server import ConflictError, Connection, RelistError, TooLargeError, connect
from confcom.errors import SettingsError, UnavailableError
from testkit.conditions import until
from testkit.controller import KUBECONFIG, NODE, http, node, pod
from testkit.expected_errors import raises

NODES = "api/v1/nodes"
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (http(409, {"message": "because"}), ConflictError, "object-changed"),
        (http(404, {"message": "because"}), ConflictError, "object-changed"),
        (http(410, {"message": "because"}), RelistError, "watch-expired"),
        (http(403, {"message": "because"}), UnavailableError, "api-server-refused"),
        (http(422, b"[]"), UnavailableError, "api-server-refused"),
        (http(429, {"message": "because"}), UnavailableError, "api-server-unavailable"),
        (http(500, b"<html>"), UnavailableError, "api-server-unavailable"),
        (b"SSH-2.0\r\n\r\n", UnavailableError, "api-server-unavailable"),
        (http(200, {"items": []})[:-3], UnavailableError, "api-server-unavailable"),
        (http(200, b"<html>"), RelistError, "api-server-unreadable"),
        (http(200, b'{"metadata": {}, "items": [{"\xff": 1}]}'), RelistError, "api-server-unreadable"),
    ],
)
async def test_answers_have_their_meaning(server, connection, answer, error, code):
    server.answers = [answer]
    with raises(code, error):
        await connection.list(NODES, {}, 9, lambda raw: json.loads(bytes(raw)))
    if answer[9:12] != b"200":
        server.answers = [answer]
        with raises(code, error):
            await anext(connection.watch(NODES, {}))


async def watched(server, connection, body):
    server.answers = [HEAD + body]
    return [(kind, thing["metadata"]["name"]) async for kind, thing in connection.watch(NODES, {})]


def line(thing):
    """An event as Go writes it, with escapes only for the characters that JSON requires to be escaped."""
    return json.dumps({"type": "MODIFIED", "object": thing}, ensure_ascii=False).encode() + b"\n"


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x0b", "\x1c", "\r\n"])
async def test_what_ends_a_line_elsewhere_cuts_no_event(server, connection, end):
    found = await watched(server, connection, line(pod(name=f"a{end}b")) + line(pod(name="next")))
    assert found == [("MODIFIED", f"a{end}b"), ("MODIFIED", "next")]


async def test_a_watch_tells_of_errors(server, connection):
    with raises("watch-expired", RelistError):
        await watched(server, connection, b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n')
    for unreadable in (b'{"type": "MODIF', b"[]\n", b"<html>\n"):
        with raises("api-server-unreadable", RelistError):
            await watched(server, connection, unreadable)


async def test_no_answer_and_no_event_is_endless(server, connection, monkeypatch):
    monkeypatch.setattr(limits, "ANSWER_BYTES", 1 << 20)
    for read in (watched(server, connection, b"x" * (2 << 20)), connection.request("GET", NODES, {})):
        server.answers = [HEAD + b"x" * (2 << 20)]
        with raises("api-server-unreadable", TooLargeError):
            await read


async def test_lists_are_taken_in_pages(server, connection):
    for number in range(5):
        server.put("pods", pod(name=f"p{number}"))
    names: list[str] = []
    version = await connection.list("api/v1/pods", {}, 2, lambda raw: names.append(bytes(raw).decode()))
    assert version == "6"
    assert [json.loads(one)["metadata"]["name"] for one in names] == [f"p{number}" for number in range(5)]
    assert [query.get("continue") for query in server.queries("/api/v1/pods", limit="2")] == [None, "2", "4"]


def filled(name, size):
    return node({}, name=name) | {"filled": "x" * size}


async def test_a_page_that_is_too_large_is_asked_again_with_fewer_objects(server, connection, monkeypatch):
    monkeypatch.setattr(limits, "ANSWER_BYTES", 5_000)
    sizes = [1, 1, 1, 1, 1, 1, 4_000, 4_000, 1]
    for number, size in enumerate(sizes):
        server.put("nodes", filled(f"n{number}", size))
    names: list[str] = []
    await connection.list(NODES, {}, 4, lambda raw: names.append(json.loads(bytes(raw))["metadata"]["name"]))
    assert names == [f"n{number}" for number in range(len(sizes))]
    asked = [(query.get("continue"), query["limit"]) for query in server.queries("/api/v1/nodes")]
    assert asked == [(None, "4"), ("4", "4"), ("4", "2"), ("6", "2"), ("6", "1"), ("7", "1"), ("8", "1")]
    server.put("nodes", filled("n3", 6_000))
    with raises("api-server-unreadable", RelistError):
        await connection.list(NODES, {}, 4, bytes)


async def test_nobody_answers(server, connection):
    connection.client.base_url = "http://127.0.0.1:9"
    with raises("api-server-unavailable", UnavailableError):
        await connection.request("GET", NODES, {})


def test_an_api_server_is_needed(tmp_path):
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(KUBECONFIG | {"current-context": ""}))
    for kubeconfig in (path, None, tmp_path / "none"):
        with raises("no-api-server", SettingsError):
            connect(kubeconfig)


async def test_a_kubeconfig_says_how_to_log_in(server, tmp_path):
    server.put("nodes", node({}))
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.port}"}}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(KUBECONFIG | {"clusters": [cluster]}))
    client = connect(path)
    found: list[dict] = []
    await Connection(client).list(NODES, {}, 9, lambda raw: found.append(json.loads(bytes(raw))))
    await client.aclose()
    assert [one["metadata"]["name"] for one in found] == [NODE]


async def test_a_watch_that_had_to_wait_gathers_what_comes_next(server, connection, monkeypatch):
    monkeypatch.setattr(limits, "GATHER_SECONDS", 0.2)
    events, clock = connection.watch(NODES, {"resourceVersion": "0"}), asyncio.get_running_loop().time
    waiting = asyncio.ensure_future(anext(events))
    await until(lambda: server.log)
    await asyncio.sleep(0.05)
    server.put("nodes", node({}))
    await waiting
    begun = clock()
    for _ in range(2):
        server.put("nodes", node({}))
    await anext(events)
    assert clock() - begun > 0.15
    begun = clock()
    await anext(events)
    assert clock() - begun < 0.15
    await events.aclose()
