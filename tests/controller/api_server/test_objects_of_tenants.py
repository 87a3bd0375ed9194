"""Pods that a tenant fills with what an API server permits: the controller goes on reading, in bounded memory."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from confcom.controller.api_server.errors import UnreadableError
from confcom.controller.limits_and_deadlines import ANSWER_BYTES, PAGE
from testkit.controller import EPC, api_of, pod

Query = dict[str, str]
Answer = Callable[[Query], Iterator[bytes]]
ROOT = Path(__file__).resolve().parents[3]
OBJECT_BYTES = 8_000_000
"""JSON of a Pod of 1.3 MiB in etcd that consists of `<`, which Go writes as six bytes."""


@contextlib.contextmanager
def api_server(answer):
    """An HTTP server that sends the parts of an answer one by one; where it listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            with contextlib.suppress(ConnectionError):
                for part in answer(query):
                    self.wfile.write(part)

        def log_message(self, *arguments):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@contextlib.asynccontextmanager
async def following(answer):
    with api_server(answer) as url:
        found = api_of(httpx2.AsyncHTTPTransport(), url)
        yield found
        await found.close()


def event(thing):
    """One line, with characters as Go writes them: only those that JSON must escape are escaped."""
    return json.dumps({"type": "MODIFIED", "object": thing}, ensure_ascii=False).encode() + b"\n"


def slowly(*parts):
    def answer(_):
        for part in parts:
            yield part
            time.sleep(0.02)

    return answer


async def names_in_watch(answer):
    async with following(answer) as api:
        return [thing["metadata"]["name"] async for _, thing in api.pods.watch("7")]


@pytest.mark.parametrize("end", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\r", "\r\n"])
async def test_what_ends_a_line_elsewhere_cuts_no_event(end):
    thing = pod({EPC: "8"}, f"a{end}b")
    thing["metadata"]["annotations"] = {"x": f"y{end}z"}
    line = event(thing)
    character = json.dumps(end, ensure_ascii=False)[1:-1].encode()
    cut = line.index(character) + 1  # within its bytes, if it has more than one
    names = await names_in_watch(slowly(line[:cut], line[cut:], event(pod(name="next"))))
    assert names == [f"a{end}b", "next"]


async def test_an_event_without_an_end_is_not_kept():
    sent = 0

    def endless(_):
        nonlocal sent
        while True:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    with pytest.raises(UnreadableError):
        await names_in_watch(endless)
    assert sent < 4 * ANSWER_BYTES


OWNERS = b'"ownerReferences": [%s]' % b",".join([b'{"apiVersion":"v","kind":"k","name":"n","uid":"u"}'] * 30_000)
"""1.5 MB of the smallest things of which Python objects are made."""


class Pods:
    """Pods of which some are large, in pages as an API server makes them."""

    def __init__(self, small, large, filling):
        self.asked: list[int] = []
        self._padding = b'"metadata": {%s, ' % filling
        self._large = [False] * small + [True] * large + [False] * small

    def answer(self, query):
        limit, first = int(query["limit"]), int(query.get("continue", "0"))
        self.asked.append(limit)
        after = min(first + limit, len(self._large))
        more = str(after) if after < len(self._large) else ""
        yield b'{"metadata": %s, "items": [' % json.dumps({"resourceVersion": "7", "continue": more}).encode()
        for number in range(first, after):
            if number > first:
                yield b", "
            yield from self._one(number)
        yield b"]}"

    def _one(self, number):
        thing = json.dumps(pod({EPC: "8"}, str(number))).encode()
        if not self._large[number]:
            yield thing
            return
        before, after = thing.split(b'"metadata": {', 1)
        yield from (before, self._padding, after)


LISTING = """
import asyncio, sys
import httpx2
from testkit.controller import api_of

async def main():
    api, names = api_of(httpx2.AsyncHTTPTransport(), sys.argv[1]), []
    take = lambda one: names.append(one["metadata"]["name"])
    await (api.pods.list(take) if sys.argv[2] == "all" else api.read_pods("n", take))
    await api.close()
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(len(names), len(set(names)), int(lines["VmHWM"].split()[0]) // 1024)

asyncio.run(main())
"""


def listed(pods, which="all"):
    """List them in a process of its own: how many there were, how many names, and the MiB it took at the peak."""
    with api_server(pods.answer) as url:
        command = [sys.executable, "-c", LISTING, url, which]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return [int(one) for one in done.stdout.split()]


def test_large_pods_are_listed_in_little_memory():
    pods = Pods(600, 12, b'"annotations": {"x": "%s"}' % (b"\\u003c" * (OBJECT_BYTES // 6)))
    count, names, mib = listed(pods)
    assert count == names == 1212
    assert mib < 128
    assert pods.asked[0] == pods.asked[-1] == PAGE
    assert len(pods.asked) < 50


@pytest.mark.parametrize("which", ["all", "those of a node"])
def test_pods_with_many_owners_are_listed_in_little_memory(which):
    count, names, mib = listed(Pods(10, 12, OWNERS), which)
    assert count == names == 32
    assert mib < 160
