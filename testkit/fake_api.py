import copy
import json
import re
import threading
from http import HTTPStatus

import httpx2

from confcom.addon.api import CLUSTER_WIDE, Api, plural
from confcom.addon.login import Cluster
from confcom.kubernetes.kubectl_flags import Login
from confcom.kubernetes.objects import labels_of
from testkit.cluster_objects import NOW, SYSTEM

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<resource>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>.+))?"
)
_KEYS = {
    **dict.fromkeys(("containers", "initContainers", "ephemeralContainers", "volumes", "env"), "name"),
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
"""Lists whose items server-side apply merges by a key; server-side apply replaces all other lists."""
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class _RefusalError(Exception):
    def __init__(self, code, message, *, plain=False):
        super().__init__(message)
        self.code, self.message, self.plain = code, message, plain


class FakeApi(httpx2.BaseTransport):
    """Serves copies of the given objects and of two namespaces, and changes the copies like an API server.

    `denied` has pairs of a verb and a resource (`nodes/status`). `logs` is keyed by Pod, or by Pod and "previous",
    and `pages` by Pod and page.
    `unreachable` refuses connections. `writes` has those `requests` that may change objects.
    """

    def __init__(self, objects=(), *, denied=(), logs=(), pages=(), version="v1.36.3"):
        self.objects, self.requests, self.writes = [], [], []
        self.denied, self.logs, self.pages, self.version = set(denied), dict(logs), dict(pages), version
        self.unreachable = False
        self._refusals, self._last_version, self._lock = [], 0, threading.RLock()
        namespaces = ({"kind": "Namespace", "metadata": {"name": name}} for name in ("default", SYSTEM))
        for one in (*namespaces, *objects):
            self.put(one)

    def put(self, thing):
        """Store a copy, which replaces any object of the same kind and name; return the copy."""
        made = copy.deepcopy(thing)
        old = self.find(made["kind"], made["metadata"]["name"], namespace_of(made))
        self._last_version += 1
        made["metadata"]["resourceVersion"] = str(self._last_version)
        if old:
            self.objects[self.objects.index(old[0])] = made
        else:
            self.objects.append(made)
        return made

    def find(self, kind, name=None, namespace=None):
        """The stored objects without copying, so that a test may change the objects."""
        return [
            one
            for one in self.objects
            if one["kind"] == kind
            and name in {None, one["metadata"]["name"]}
            and namespace in {None, "", namespace_of(one)}
        ]

    def remove(self, kind, name, namespace=None):
        """Remove an object and its dependents; return whether the object existed."""
        gone = [id(one) for one in self.find(kind, name, namespace)]
        owned = [
            id(one)
            for one in self.objects
            for owner in one["metadata"].get("ownerReferences", ())
            if (owner["kind"], owner["name"]) == (kind, name)
        ]
        self.objects[:] = [one for one in self.objects if id(one) not in {*gone, *owned}]
        return bool(gone)

    def refuse(self, predicate, status, message, *, plain=False):
        """Answer matching requests with an error from now on: a Status, or only the message if `plain`."""
        self._refusals.append((predicate, _RefusalError(status, message, plain=plain)))

    def accept(self):
        self._refusals.clear()

    def handle_request(self, request):
        with self._lock:
            request.read()
            self.requests.append((request.method, request.url.path))
            if self.unreachable:
                raise httpx2.ConnectError("[Errno 111] Connection refused", request=request)
            try:
                for predicate, failure in self._refusals:
                    if predicate(request):
                        raise failure
                code, answer = self._answer(request, dict(request.url.params))
            except _RefusalError as error:
                code, answer = error.code, error.message if error.plain else _status(error)
            if isinstance(answer, str):
                return httpx2.Response(code, text=answer, request=request)
            # lightkube reads a Status only from this content type, without a charset.
            headers = {"Content-Type": "application/json"}
            return httpx2.Response(code, content=json.dumps(answer), headers=headers, request=request)

    def _answer(self, request, options):
        if request.url.path == "/version":
            return 200, {"gitVersion": self.version}
        if not (found := _PATH.fullmatch(request.url.path)):
            raise _RefusalError(404, "404 page not found\n", plain=True)
        at = found.groupdict(default="")
        if at["resource"] == "selfsubjectaccessreviews":
            return 201, self._reviewed(json.loads(request.content))
        self._check_permission(request.method, at)
        if request.method != "GET" and not options.get("dryRun"):
            self.writes.append((request.method, request.url.path))
        if at["sub"].startswith(("log", "proxy/")):
            return 200, self._page(at, options)
        return getattr(self, f"_{request.method.lower()}")(at, request, options)

    def _stored(self, at, *, missing_ok=False):
        found = [one for one in self.objects if _is_at(one, at) and one["metadata"]["name"] == at["name"]]
        if not found and not missing_ok:
            raise _RefusalError(404, f'{at["resource"]} "{at["name"]}" not found')
        return found[0] if found else {}

    def _get(self, at, request, options):
        if options.get("watch"):
            found = [one for one in self.objects if _is_at(one, at) and options["labelSelector"] in labels_of(one)]
            return 200, "".join(json.dumps({"type": "ADDED", "object": one}) + "\n" for one in found)
        if not at["name"]:
            return 200, self._list(at, options)
        return 200, self._stored(at)

    def _post(self, at, request, options):
        return 201, self._create(at, json.loads(request.content), options)

    def _put(self, at, request, options):
        old = self._stored(at)
        return 200, self._write(old, {"kind": old["kind"], **json.loads(request.content)}, options)

    def _delete(self, at, request, options):
        self.remove(self._stored(at)["kind"], at["name"], at["namespace"])
        return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def _patch(self, at, request, options):
        media_type, patch = request.headers["content-type"], json.loads(request.content)
        old = self._stored(at, missing_ok="apply-patch" in media_type)
        if "apply-patch" in media_type:
            new = applied({}, old, patch)
        else:
            new = _json_patched(old, patch) if "json-patch" in media_type else merged(old, patch)
        return 200, self._write(old, new, options)

    def _reviewed(self, review):
        asked = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return review | {"status": {"allowed": (asked["verb"], resource) not in self.denied}}

    def _check_permission(self, method, at):
        verb = _VERBS.get(method) or ("get" if at["name"] else "list")
        resource = "/".join(filter(None, (at["resource"], at["sub"].partition("/")[0])))
        if (verb, resource) in self.denied:
            where = f'in the namespace "{at["namespace"]}"' if at["namespace"] else "at the cluster scope"
            message = f'User "eve" cannot {verb} resource "{resource}" in API group "{at["group"]}" {where}'
            raise _RefusalError(403, f"{at['resource']} is forbidden: {message}")

    def _page(self, at, options):
        pod = at["name"].partition(":")[0]
        if not self.find("Pod", pod, at["namespace"]):
            raise _RefusalError(404, f'pods "{pod}" not found')
        if at["sub"] == "log":
            if options.get("previous") == "true":
                if (pod, "previous") not in self.logs:
                    raise _RefusalError(400, f'previous terminated container in pod "{pod}" not found')
                pod = pod, "previous"
            lines = self.logs.get(pod, "").splitlines(keepends=True)
            return "".join(lines[-int(options.get("tailLines", len(lines) or 1)) :])[
                : int(options.get("limitBytes", 1 << 30))
            ]
        page = self.pages.get((pod, at["sub"].removeprefix("proxy/")))
        if page is None:
            raise _RefusalError(503, "error trying to reach service: dial tcp: connection refused")
        return page

    def _list(self, at, options):
        labels, fields = (_pairs(options.get(f"{one}Selector", "")) for one in ("label", "field"))
        assert fields.keys() <= ({"reason", "type"} if at["resource"] == "events" else set())
        found = [
            one
            for one in self.objects
            if _is_at(one, at)
            and labels.items() <= (one["metadata"].get("labels") or {}).items()
            and fields.items() <= one.items()
        ]
        start = int(options.get("continue", 0))
        end = start + int(options.get("limit", len(found)) or len(found))
        metadata = {"resourceVersion": str(self._last_version), **({"continue": str(end)} if end < len(found) else {})}
        # An API server's list names the type of its items only once, in the list's kind.
        items = [{key: one[key] for key in one if key not in {"kind", "apiVersion"}} for one in found[start:end]]
        return {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}

    def _create(self, at, body, options):
        name = body["metadata"]["name"]
        if at["namespace"] and not self.find("Namespace", at["namespace"]):
            raise _RefusalError(404, f'namespaces "{at["namespace"]}" not found')
        if any(_is_at(one, at) and one["metadata"]["name"] == name for one in self.objects):
            raise _RefusalError(409, f'{at["resource"]} "{name}" already exists')
        where = {"namespace": at["namespace"]} if at["namespace"] else {}
        made = body | {"metadata": {"uid": f"uid-{name}", "creationTimestamp": NOW, **body["metadata"], **where}}
        return self._write({}, made, options)

    def _write(self, old, new, options):
        """Store an object unless the request is a dry run or changes nothing; return the object."""
        before, after = (one.get("metadata", {}).get("resourceVersion") for one in (old, new))
        if before and after not in {None, before}:
            raise _RefusalError(
                409, f'Operation cannot be fulfilled on "{new["metadata"]["name"]}": it has been modified'
            )
        if options.get("dryRun") or old == new:
            return new
        return copy.deepcopy(self.put(new))


def cluster_of(api, namespace=SYSTEM):
    return Cluster(namespace, Login(), "test", "https://test:6443", Api(api))


def _status(failure):
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": failure.message,
        "reason": HTTPStatus(failure.code).phrase,
        "code": failure.code,
    }


def namespace_of(thing):
    return "" if thing["kind"] in CLUSTER_WIDE else thing["metadata"].get("namespace", "default")


def _is_at(thing, at):
    return plural(thing["kind"]) == at["resource"] and at["namespace"] in {"", namespace_of(thing)}


def _pairs(selector):
    return dict(one.split("=") for one in selector.split(",") if one)


def merged(old, patch):
    """JSON Merge Patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    made = copy.deepcopy(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        else:
            made[key] = merged(made.get(key), value)
    return made


def _json_patched(old, patch):
    """JSON Patch (RFC 6902), limited to the operations test and remove in objects."""
    made = copy.deepcopy(old)
    for one in patch:
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:])
        at = made
        for key in parents:
            at = at.get(key, {})
        if last not in at or (one["op"] == "test" and at[last] != one["value"]):
            raise _RefusalError(422, "the server rejected our request due to an error in our request")
        if one["op"] == "remove":
            at.pop(last)
    return made


def applied(before, live, new, key=""):
    """Server-side apply of `new` to `live`; fields that are in `before` and not in `new` are removed."""
    if isinstance(live, dict) and isinstance(new, dict):
        before = before if isinstance(before, dict) else {}
        kept = {name: value for name, value in live.items() if name in new or name not in before}
        return kept | {name: applied(before.get(name), live.get(name), value, name) for name, value in new.items()}
    if isinstance(live, list) and isinstance(new, list) and (by := _KEYS.get(key)):
        before, live, new = ({one.get(by): one for one in items or ()} for items in (before, live, new))
        return list(applied(before, live, new).values())
    return copy.deepcopy(new)
