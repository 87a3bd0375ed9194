import asyncio
import contextlib
import json
import re
from urllib.parse import parse_qs, urlsplit

import httpx2

from confcom.controller.api_server import Connection
from confcom.controller.facts import Release
from confcom.kubernetes.names import FIELD_MANAGER
from testkit.cluster_objects import writes_of

EPC = "example.com/epc"
RELEASE = Release("confcom-system", "confcom")
NODE = "n"
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "c", "cluster": {"insecure-skip-tls-verify": True}}],
    "users": [{"name": "u", "user": {"token": "secret"}}],
    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "x",
}


def node(capacity, allocatable=None, *, manager="kubelet", version="1", name=NODE):
    """A node whose capacity was last written by `manager`; without `allocatable`, the capacity is used."""
    metadata = {"name": name, "uid": "u", "resourceVersion": version, "managedFields": [writes_of(capacity, manager)]}
    return {
        "metadata": metadata,
        "status": {"capacity": capacity, "allocatable": dict(capacity) if allocatable is None else allocatable},
    }


def written(mib, **more):
    return node({EPC: mib}, manager=FIELD_MANAGER, **more)


def pod(limits=None, name="t", *, namespace="tenant", on=NODE, phase="Running", accepted=True):
    """A Pod with one container; `accepted` says whether its kubelet has accepted the Pod."""
    return {
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}"},
        "spec": {"nodeName": on, "containers": [{"name": "c", "resources": {"limits": limits or {}}}]},
        "status": {"phase": phase} | ({"startTime": "2026-11-28T10:00:00Z"} if accepted else {}),
    }


def plugin_pod(name="p", *, namespace=RELEASE.namespace, owner="DaemonSet", labels=(), phase="Running", **status):
    """A device plugin's Pod; `labels` adds app.kubernetes.io labels, and `status` adds fields of the status."""
    named = {"name": "confcom", "instance": RELEASE.name, "component": "device-plugin"} | dict(labels)
    found = pod(name=name, namespace=namespace, phase=phase)
    found["metadata"] |= {
        "creationTimestamp": "2026-11-28T10:00:00Z",
        "labels": {f"app.kubernetes.io/{key}": value for key, value in named.items()},
        "ownerReferences": [{"kind": owner, "controller": True}],
    }
    found["status"] |= {"podIP": "10.0.0.7"} | status
    return found


def connection_to(port):
    return Connection(httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False))


class ApiServer:
    """An API server with the parts that the controller uses, on a real socket in the test's event loop."""

    def __init__(self):
        self.objects: dict[str, dict[str, dict]] = {"nodes": {}, "pods": {}, "events": {}}
        self.log: list[tuple[str, str, dict]] = []
        """Method, path and query of each request."""
        self.patches: list[dict] = []
        self.answers: list[bytes | None] = []
        """Complete HTTP answers, one for each next request; None stands for the server's normal answer."""
        self.meanwhile = lambda: None
        """Function that the server calls before it answers a patch."""
        self._version = 1
        self._changes: list[tuple[int, str, str, dict]] = []
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: list[asyncio.Task] = []

    @contextlib.asynccontextmanager
    async def serving(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.end_watches()
            await asyncio.gather(*self._tasks)

    def connection(self):
        return connection_to(self.port)

    def put(self, kind, thing, *, told=True):
        """Add or change an object; with `told`, also notify the watches."""
        name, self._version = thing["metadata"]["name"], self._version + 1
        event = "MODIFIED" if name in self.objects[kind] else "ADDED"
        thing = {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self._version)}}
        self.objects[kind][name] = thing
        if told:
            self._tell(event, kind, thing)
        return thing

    def delete(self, kind, name, *, told=True):
        self._version += 1
        thing = self.objects[kind].pop(name)
        if told:
            self.lose(kind, thing)

    def lose(self, kind, thing):
        """Report an object as deleted to the watches, as happens when the object loses its label."""
        self._version += 1
        self._tell("DELETED", kind, {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self._version)}})

    def bookmark(self, kind):
        self._version += 1
        self._tell("BOOKMARK", kind, {"metadata": {"resourceVersion": str(self._version)}})

    def end_watches(self):
        for writer in self._writers:
            writer.transport.abort()
        self._tasks.append(asyncio.create_task(self._wake()))

    def queries(self, path, **wanted):
        """Queries of the requests for a path, limited to queries with these values."""
        return [query for _, at, query in self.log if at == path and wanted.items() <= query.items()]

    def _tell(self, event, kind, thing):
        self._changes.append((self._version, kind, event, thing))
        self._tasks.append(asyncio.create_task(self._wake()))

    async def _wake(self):
        async with self._changed:
            self._changed.notify_all()

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        self._tasks.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                method, target, _ = head.split(" ", 2)
                url = urlsplit(target)
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b"null"
                self.log.append((method, url.path, query))
                if self.answers and (answer := self.answers.pop(0)) is not None:
                    writer.write(answer)
                    await writer.drain()
                    break
                if "watch" in query:
                    await self._watch(writer, url.path.rsplit("/", 1)[1], int(query["resourceVersion"]))
                else:
                    writer.write(http(*self._answer(method, url.path, query, json.loads(body))))
                await writer.drain()
        writer.close()
        self._writers.discard(writer)

    async def _watch(self, writer, kind, version):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        seen = 0
        while not writer.is_closing():
            for at, of, event, thing in self._changes[seen:]:
                if of == kind and at > version:
                    writer.write(json.dumps({"type": event, "object": thing}).encode() + b"\n")
            seen = len(self._changes)
            await writer.drain()
            async with self._changed:
                while len(self._changes) == seen and not writer.is_closing():
                    await self._changed.wait()

    def _answer(self, method, path, query, body):
        *_, kind = path.removesuffix("/status").split("/")
        if method == "POST":
            return 201, self.put("events", body)
        if method == "PATCH":
            return self._patch(kind, body)
        if kind not in self.objects:
            return (200, self.objects["nodes"][kind]) if kind in self.objects["nodes"] else (404, {"message": "no"})
        key, _, value = query.get("fieldSelector", "").partition(",")[0].partition("=")
        found = [one for one in self.objects[kind].values() if not key or one["spec"]["nodeName"] == value]
        first, limit = int(query.get("continue", 0)), int(query.get("limit", 1000))
        more = str(first + limit) if len(found) > first + limit else ""
        metadata = {"resourceVersion": str(self._version), "continue": more}
        return 200, {"metadata": metadata, "items": found[first : first + limit]}

    def _patch(self, name, body):
        there = self.objects["nodes"].get(name)
        version = body.get("metadata", {}).get("resourceVersion")
        if there is None or (version and version != there["metadata"]["resourceVersion"]):
            return 404 if there is None else 409, {"kind": "Status", "message": "changed"}
        self.patches.append(body)
        status = {
            kind: {key: mib for key, mib in {**there["status"].get(kind, {}), **amounts}.items() if mib is not None}
            for kind, amounts in body["status"].items()
        }
        metadata = there["metadata"] | {"managedFields": [writes_of(status["capacity"], FIELD_MANAGER)]}
        made = self.put("nodes", {"status": status, "metadata": metadata})
        self.meanwhile()
        return 200, made


def http(status, thing):
    body = thing if isinstance(thing, bytes) else json.dumps(thing).encode()
    return f"HTTP/1.1 {status} because\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
