"""A client of the API server: lightkube, connected to the socket of `kubectl proxy` (confcom.addon.login)."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import msgspec
from lightkube import Client, KubeConfig
from lightkube.config.models import Cluster as ApiServer
from lightkube.config.models import User
from lightkube.core.decoders import ListMetadata
from lightkube.core.resource import api_info
from lightkube.generic_resource import GenericGlobalResource, GenericNamespacedResource, create_api_info
from lightkube.models.meta_v1 import ObjectMeta, Status
from lightkube.types import PatchType

from confcom.errors import UnavailableError, shortened
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of, namespace_of, text

T = TypeVar("T")
R = TypeVar("R")

LOGIN_SECONDS = 120.0
"""Timeout of the first request, during which a credential plugin may ask a person to log in."""
API_SECONDS = 30.0
"""The usual timeout of a request; a busy API server needs a second to send one page of a list."""
PODS_SECONDS = 5.0
"""Short timeout of a request that the API server forwards to a node, since the node may not answer."""
AT_ONCE = 8
"""Maximum number of concurrent requests."""
PAGE = 250
"""Objects per page of a list: 250 ordinary Pods take 2 MB, and 250 Pods of the maximum size 375 MB."""
END_SECONDS = 30.0
"""Time within which the end of a log must have arrived."""
END_LINES = 20_000
"""Number of last lines of which the end of a log is taken: with the daemons' lines of 350 bytes, they are 7 MB."""
MAX_DOWNLOAD = 64 << 20
"""Bytes after which a log is given up; with the usual settings, a kubelet's log file has at most 10 MiB."""
MAX_LOG_LINES = 2_000
"""Number of last lines to read. A daemon logs its state every 30 s, and limits lines that clients cause."""
MAX_PROBE_PAGE = 1 << 20
"""Limit in bytes of a daemon's page, which any container could serve in its place; `/metrics` has under 64 KiB."""
PROBE_PAGE_SECONDS = 10.0
"""Time within which the whole page must arrive: a page that arrives byte by byte would hold its reader for days."""
PROBES_PORT = 8080
"""The port at which the daemons serve probes, metrics and inventory; the chart sets the same port."""
HELM_MANAGER = "helm"
"""The field manager under which helm 4 applies manifests."""
_BASE_URL = "http://localhost"
"""kubectl proxy accepts requests for this host only."""
_SILENT = "the API server does not answer"
_ADMISSION = re.compile(r'denied (the )?request|" is forbidden: (?!User |error looking up|status unknown)')
"""Matches the message of a refusal by admission. It does not match if the user lacks a permission, or if the refusal
ends once controllers have created the namespace's ServiceAccount and the status of the namespace's quota."""
CLUSTER_WIDE = (
    *("Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "PriorityClass", "SelfSubjectAccessReview"),
    *("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"),
    *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
)
"""The cluster-scoped kinds that the chart or confcom uses; all other kinds in use are namespaced."""

Kind = type[Any]
"""A lightkube resource class whose objects are dictionaries."""


class ClusterAccessError(UnavailableError):
    """The cluster, or an object in it, cannot be reached."""

    error_code = "cluster-request-failed"


class ForbiddenError(ClusterAccessError):
    """The API server denied the request; a retry does not help."""

    error_code = "forbidden"

    def __init__(self, what: str, *, why: str = "") -> None:
        super().__init__(what, why=why, remedy="ask for the permissions that docs/how-to/let-people-look.md lists")


class NotFoundError(ClusterAccessError):
    """The object does not exist."""


class ConflictError(ClusterAccessError):
    """The object to create exists already, or the object to replace was changed after confcom read it."""


class RefusedError(ClusterAccessError):
    """Admission or validation refused an object. If it is `invalid`, every namespace refuses this object."""

    error_code = "object-refused"

    def __init__(self, what: str, *, why: str, invalid: bool) -> None:
        super().__init__(what, error_code="object-invalid" if invalid else "", why=why)


def at_once(request: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """Call `request` with each thing, at most AT_ONCE at the same time; return the results in the things' order."""
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(request, things))


def plural(kind: str) -> str:
    """Return the plural name of a kind's resource, by a rule that is right for every kind in the chart."""
    word = kind.lower()
    if word.endswith(("s", "x", "ch")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("cy") else f"{word}s"


def kind_of(api_version: str, kind: str) -> Kind:
    group, _, version = api_version.rpartition("/")
    base = GenericGlobalResource if kind in CLUSTER_WIDE else GenericNamespacedResource
    return type(kind, (base,), {"_api_info": create_api_info(group, version, kind, plural(kind))})


def place_of(manifest: KubernetesObject, namespace: str) -> tuple[Kind, str, str]:
    kind = kind_of(text(manifest, "apiVersion"), text(manifest, "kind"))
    return kind, name_of(manifest), "" if kind.__name__ in CLUSTER_WIDE else namespace_of(manifest) or namespace


NODE = kind_of("v1", "Node")
NAMESPACE = kind_of("v1", "Namespace")
POD = kind_of("v1", "Pod")
SECRET = kind_of("v1", "Secret")
EVENT = kind_of("v1", "Event")
LIMIT_RANGE = kind_of("v1", "LimitRange")
DAEMON_SET = kind_of("apps/v1", "DaemonSet")
DEPLOYMENT = kind_of("apps/v1", "Deployment")
REVISION = kind_of("apps/v1", "ControllerRevision")
LEASE = kind_of("coordination.k8s.io/v1", "Lease")
_REVIEW = kind_of("authorization.k8s.io/v1", "SelfSubjectAccessReview")


class Api:
    """A client of the API server. A method that fails raises ClusterAccessError or one of its subclasses."""

    def __init__(self, transport: httpx2.BaseTransport, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a client that sends requests to kubectl proxy over `transport`. Threads may share it."""
        self._clock = clock
        # Prepare types: msgspec 0.22 crashes if two threads decode to a new type simultaneously (measured).
        for decoded in (ObjectMeta, Status, ListMetadata):
            msgspec.convert({}, decoded)
        # The socket has no TLS. `insecure` keeps lightkube from loading all CA certificates, which takes 0.1 s.
        config = KubeConfig.from_one(cluster=ApiServer(server=_BASE_URL, insecure=True), user=User())
        timeout = httpx2.Timeout(API_SECONDS)
        # The type is Any: lightkube's overloads do not accept the classes that kind_of() makes.
        self._client: Any = Client(config, timeout=timeout, trust_env=False, transport=transport)
        self._http = httpx2.Client(base_url=_BASE_URL, timeout=timeout, trust_env=False, transport=transport)

    def log_in(self) -> None:
        self._raw("the cluster cannot be reached", "/version", LOGIN_SECONDS)

    def server_version(self) -> str:
        failure = "the API server's version cannot be read"
        with _reported(failure):
            return text(self._raw(failure, "/version").json(), "gitVersion")

    def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Iterator[KubernetesObject]:
        """Read a list page by page, and yield its objects. An empty `namespace` means all namespaces."""
        where = {} if issubclass(kind, GenericGlobalResource) else {"namespace": namespace or "*"}
        # The items of a list have no apiVersion and kind: only the list itself has them.
        typed = {"apiVersion": api_info(kind).resource.api_version, "kind": kind.__name__}
        with _reported(f"{plural(kind.__name__)} cannot be listed"):
            for one in self._client.list(kind, chunk_size=PAGE, labels=labels, fields=fields, **where):
                yield typed | one

    def get(self, kind: Kind, name: str, namespace: str = "") -> KubernetesObject | None:
        with contextlib.suppress(NotFoundError), _reported(f"the {kind.__name__} {name} cannot be read"):
            found: KubernetesObject = self._client.get(kind, name, **_in(namespace))
            return found
        return None

    def create(self, thing: KubernetesObject, *, dry_run: bool = False) -> bool:
        """Create an object and return True; if the object exists already, change nothing and return False."""
        made = kind_of(text(thing, "apiVersion"), text(thing, "kind"))(thing)
        with contextlib.suppress(ConflictError), _reported(f"the {made.kind} {name_of(thing)} cannot be created"):
            self._client.create(made, dry_run=dry_run, **_in(namespace_of(thing)))
            return True
        return False

    def replace(self, thing: KubernetesObject) -> bool:
        """Replace an object by `thing` and return True; if their resourceVersions differ, return False."""
        made = kind_of(text(thing, "apiVersion"), text(thing, "kind"))(thing)
        failure = f"the {made.kind} {name_of(thing)} cannot be written"
        with contextlib.suppress(ConflictError, NotFoundError), _reported(failure):
            self._client.replace(made, **_in(namespace_of(thing)))
            return True
        return False

    def merge(self, kind: Kind, name: str, patch: KubernetesObject, namespace: str = "") -> None:
        with _reported(f"the {kind.__name__} {name} cannot be changed"):
            self._client.patch(kind, name, dict(patch), patch_type=PatchType.MERGE, **_in(namespace))

    def applied(self, manifest: KubernetesObject, namespace: str) -> KubernetesObject:
        """Return the object that helm's server-side apply of the manifest would produce (a dry run)."""
        kind, name, where = place_of(manifest, namespace)
        how = {"field_manager": HELM_MANAGER, "force": True, "dry_run": True, **_in(where)}
        with _reported(f"the {kind.__name__} {name} cannot be compared"):
            found: KubernetesObject = self._client.patch(kind, name, manifest, patch_type=PatchType.APPLY, **how)
            return found

    def replaced(self, thing: KubernetesObject) -> KubernetesObject:
        """Return `thing` as `replace` would write it, with the API's default values (a dry run)."""
        made = kind_of(text(thing, "apiVersion"), text(thing, "kind"))(thing)
        with _reported(f"the {made.kind} {name_of(thing)} cannot be compared"):
            found: KubernetesObject = self._client.replace(made, dry_run=True, **_in(namespace_of(thing)))
            return found

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        """Request an object's deletion; do not wait until it is gone. Return whether the object existed."""
        with contextlib.suppress(NotFoundError), _reported(f"the {kind.__name__} {name} cannot be deleted"):
            self._client.delete(kind, name, **_in(namespace))
            return True
        return False

    def patch_node_status(self, node: str, patch: Sequence[Mapping[str, str]]) -> None:
        with _reported(f"the status of the node {node} cannot be changed"):
            headers = {"Content-Type": PatchType.JSON.value}
            answer = self._http.patch(f"/api/v1/nodes/{quote(node)}/status", json=[*map(dict, patch)], headers=headers)
            answer.raise_for_status().json()

    def is_allowed(self, attributes: Mapping[str, str]) -> bool:
        """Return whether this user has a permission (resourceAttributes of a SelfSubjectAccessReview)."""
        with _reported("the user's permissions cannot be checked"):
            answer = self._client.create(_REVIEW(spec={"resourceAttributes": dict(attributes)}))
            return mapping(answer, "status").get("allowed") is True

    def watch_pods(self, namespace: str, label: str, seconds: int) -> Generator[KubernetesObject]:
        """Yield Pods with a label: first all present ones, then each Pod that changes or goes, for some seconds."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods?watch=true&labelSelector={quote(label)}"
        path, timeout = f"{path}&timeoutSeconds={seconds}", seconds + API_SECONDS
        with _reported("Pods cannot be watched"), self._http.stream("GET", path, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
            for line in answer.raise_for_status().iter_lines():
                event = json.loads(line)
                if event["type"] == "ERROR":  # such as 410: the caller watches again
                    return
                gone = {"metadata": {**event["object"]["metadata"], "deletionTimestamp": "gone"}}
                yield event["object"] | (gone if event["type"] == "DELETED" else {})

    def log(self, pod: str, namespace: str, *, first_bytes: int = 0) -> str:
        """Read a log's last lines; or, if `first_bytes` is given, at most so many bytes from its start."""
        part = f"limitBytes={first_bytes}" if first_bytes else f"tailLines={MAX_LOG_LINES}"
        path = f"{_pod_path(pod, namespace)}/log?{part}"
        return self._raw(f"the log of {pod} cannot be read", path, PODS_SECONDS).text

    def probe_page(self, pod: str, namespace: str, page: str) -> str:
        """Read a daemon's page through the API server's proxy; `readyz` has the reason why a daemon is not ready."""
        cause = f"{pod} does not answer the API server, which networkPolicy.apiServer has to name if it is kept out"
        failure, path = f"/{page} of {pod} cannot be read", f"{_pod_path(pod, namespace)}:{PROBES_PORT}/proxy/{page}"
        most, seconds, unready = MAX_PROBE_PAGE, PROBE_PAGE_SECONDS, page == "readyz"
        received, _ = self._end(failure, path, most, limit=most, seconds=seconds, silent=cause, unready=unready)
        return received.decode(errors="replace")

    def log_end(self, pod: str, namespace: str, container: str, *, previous: bool, most: int) -> tuple[str, bool]:
        """Return the last whole lines of a container's log, at most `most` bytes, and whether it has more before."""
        which = f"container={quote(container)}&previous={str(previous).lower()}&tailLines={END_LINES}"
        path = f"{_pod_path(pod, namespace)}/log?{which}"
        kept, cut = self._end(f"the log of {pod} cannot be read", path, most)
        return (kept.partition(b"\n")[2] if cut else kept).decode(errors="replace"), cut

    def _end(
        self,
        failure: str,
        path: str,
        most: int,
        *,
        limit: int = MAX_DOWNLOAD,
        seconds: float = END_SECONDS,
        silent: str = _SILENT,
        unready: bool = False,
    ) -> tuple[bytes, bool]:
        kept, received, deadline = bytearray(), 0, self._clock() + seconds
        plain = {"Accept-Encoding": "identity"}  # compressed data could be a thousand times larger
        stream = self._http.stream("GET", path, timeout=PODS_SECONDS, headers=plain)
        with _reported(failure, silent), stream as answer:
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ClusterAccessError(failure, why="it is compressed")
            for part in answer.iter_bytes():
                kept += part
                received += len(part)
                del kept[:-most]
                if received > limit or self._clock() > deadline:
                    why = f"it has more than {limit >> 20} MiB, or did not arrive within {seconds:.0f} s"
                    raise ClusterAccessError(failure, why=why)
            is_json = answer.headers.get("content-type", "").startswith("application/json")  # of the API server
            if not unready or is_json or answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                body = bytes(kept)
                httpx2.Response(answer.status_code, content=body, request=answer.request).raise_for_status()
        return bytes(kept), received > most

    def _raw(self, failure: str, path: str, seconds: float = API_SECONDS) -> httpx2.Response:
        with _reported(failure):
            return self._http.get(path, timeout=seconds).raise_for_status()


def _pod_path(pod: str, namespace: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}"


def _in(namespace: str) -> dict[str, str]:
    return {"namespace": namespace} if namespace else {}


@contextlib.contextmanager
def _reported(failure: str, silent: str = _SILENT) -> Iterator[None]:
    """Turn errors of lightkube and httpx2 into errors of confcom. The cause is `silent` if no answer came."""
    try:
        yield
    except httpx2.HTTPStatusError as error:
        code, message = error.response.status_code, _message(error.response)
        if (denied := _ADMISSION.search(message)) or code == HTTPStatus.UNPROCESSABLE_ENTITY:
            raise RefusedError(failure, why=message, invalid=not denied) from error
        kinds = {403: ForbiddenError, 404: NotFoundError, 409: ConflictError}
        why = f"{silent}: {message}" if code >= HTTPStatus.BAD_GATEWAY else message
        raise kinds.get(code, ClusterAccessError)(failure, why=why) from error
    except httpx2.HTTPError as error:
        why = f"{silent}: {error or type(error).__name__}"
        raise ClusterAccessError(failure, why=why) from error
    except (ValueError, TypeError, AttributeError) as error:  # the answer is not a JSON object
        why = f"the answer is not the API server's: {error}"
        raise ClusterAccessError(failure, error_code="answer-not-understood", why=why) from error


def _message(response: httpx2.Response) -> str:
    try:
        said = text(response.json(), "message")
    except ValueError:
        said = response.text
    return shortened(" ".join(said.split())) or f"HTTP status {response.status_code}"
