"""Creating, reading and deleting single objects on the API server from inside a pod, with the standard library only.

It uses http.client and not urllib.request: the latter follows redirects with the token in its headers, and the proxy
variables of the environment would send the cluster's internal traffic outside.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from confcom.errors import ConfcomError, SettingsError, UnavailableError

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts a pod's token, the API server's CA and the namespace (Kubernetes: "Accessing the API from a
Pod")."""
REQUEST_SECONDS = 10.0
"""Timeout of each step of a request. Creating an object takes milliseconds; the API server's own timeout is 60 s."""
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
"""Seconds between attempts. 24 s are longer than a restart of the API server, or than a Role needs that is applied just
after the Job; after that the Job's own retries continue."""
MAX_ANSWER_BYTES = 64 * 1024
"""Read limit of an answer: a Status takes less than 1 KiB, a simulated platform's Secret about 10 KiB."""
_MANAGER = "confcom"
"""The field manager of what is created."""
_PARTICIPLES = {"POST": "created", "GET": "read", "DELETE": "deleted"}
_MAX_MESSAGE_CHARACTERS = 500
"""Limit of the API server's message within an error; the API server's own messages are one or two sentences."""


class ApiRefusedError(ConfcomError):
    """The API server refused the request for good: a retry would not help."""

    error_code = "api-server-refused"


@dataclass(frozen=True, slots=True)
class ApiObject:
    """An object of the pod's namespace: its kind, the kind's plural in paths, and its name."""

    kind: str
    plural: str
    name: str


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An HTTP answer of the API server."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class InClusterApi:
    """A client for the API server inside a pod, with the pod's ServiceAccount. Each method repeats its request.

    They raise ApiRefusedError if the API server refuses for good, UnavailableError if no attempt got a usable answer,
    and SettingsError if the pod's token or CA cannot be read.

    Args:
        host: the API server's address.
        port: its port.
        directory: contains `token`, `ca.crt` and `namespace`.
        namespace: the pod's namespace.
        sleep: waits for a number of seconds.
    """

    host: str
    port: int
    directory: Path
    namespace: str
    sleep: Callable[[float], None]

    @classmethod
    def find(cls, environ: Mapping[str, str], directory: Path, sleep: Callable[[float], None]) -> InClusterApi:
        """Create the client from the environment and the files that the kubelet gives a pod.

        Args:
            environ: contains KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
            directory: as above.
            sleep: as above.

        Raises:
            SettingsError: this is not a pod, or a pod without a ServiceAccount's token.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal():
            raise _no_pod("the variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
        return cls(host, int(port), directory, _read(directory / "namespace"), sleep)

    def described(self, wanted: ApiObject) -> str:
        """Return an object's name for messages."""
        return f"the {wanted.kind} {self.namespace}/{wanted.name}"

    def create(self, wanted: ApiObject, body: bytes) -> bool:
        """Create an object, and return whether it was created: one of that name is neither replaced nor read."""

        def usable(answer: ApiAnswer) -> bool:
            exists = answer.status == HTTPStatus.CONFLICT and _status_of(answer)[0] == "AlreadyExists"
            return exists or answer.status == HTTPStatus.CREATED

        return self._ask("POST", wanted, usable, body).status == HTTPStatus.CREATED

    def read(self, wanted: ApiObject) -> bytes | None:
        """Return an object's JSON; None if it does not exist."""
        answer = self._ask("GET", wanted, lambda answer: answer.status in {HTTPStatus.OK, HTTPStatus.NOT_FOUND})
        return answer.body if answer.status == HTTPStatus.OK else None

    def delete(self, wanted: ApiObject) -> None:
        """Delete an object; a missing one is no error."""
        done = {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND}
        self._ask("DELETE", wanted, lambda answer: answer.status in done)

    def _ask(
        self, method: str, wanted: ApiObject, usable: Callable[[ApiAnswer], bool], body: bytes | None = None
    ) -> ApiAnswer:
        """Repeat a request until its answer is usable, the API server refuses for good, or RETRY_DELAYS are over."""
        what = f"{self.described(wanted)} cannot be {_PARTICIPLES[method]}"
        home = f"/api/v1/namespaces/{self.namespace}/{wanted.plural}"
        path = f"{home}/{wanted.name}" if body is None else f"{home}?fieldManager={_MANAGER}"
        waits = iter(RETRY_DELAYS)
        while True:
            try:
                answer = self._request(method, path, body)
            except ssl.SSLCertVerificationError as error:
                raise UnavailableError(
                    what,
                    error_code="api-server-not-trusted",
                    why=f"the API server's certificate was not issued by the pod's CA:  {error.verify_message}",
                    remedy="check that no proxy intercepts the connection to the API server",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                problem = f"the API server did not answer: {error or type(error).__name__}"
            else:
                if usable(answer):
                    return answer
                problem = _passing_problem(answer, self.described(wanted))
            wait = next(waits, None)
            if wait is None:
                raise UnavailableError(
                    f"{what} after {len(RETRY_DELAYS) + 1} attempts",
                    error_code="api-server-unavailable",
                    why=problem,
                    remedy="check the API server, and that this pod's ServiceAccount has the rights of the chart's "
                    "Role",
                )
            self.sleep(wait)

    def _request(self, method: str, path: str, body: bytes | None) -> ApiAnswer:
        """Send one request, with JSON if there is a body.

        Raises:
            OSError, http.client.HTTPException: no answer came.
            SettingsError: the pod's token or CA cannot be read.
        """
        # Read for each request: the kubelet renews the token.
        token = _read(self.directory / "token")
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=REQUEST_SECONDS, context=_trust(self.directory / "ca.crt")
        )
        try:
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return ApiAnswer(response.status, response.read(MAX_ANSWER_BYTES))
        finally:
            connection.close()


def _passing_problem(answer: ApiAnswer, what: str) -> str:
    """Return the reason of a temporary failure.

    Raises:
        ApiRefusedError: the failure is permanent.
    """
    _, message = _status_of(answer)
    told = f"the API server answered {answer.status}" + (f": {message}" if message else "")
    # 401 and 403 too: the API server takes a while to know a token or Role that was just created.
    passing = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    if answer.status in passing or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return told
    raise ApiRefusedError(
        f"{what} was refused",
        why=told,
        remedy="if an admission policy refuses it, allow it there; else report this with the API server's version",
    )


def _status_of(answer: ApiAnswer) -> tuple[str, str]:
    try:
        status = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(status, dict):
        return "", ""
    return str(status.get("reason", "")), str(status.get("message", ""))[:_MAX_MESSAGE_CHARACTERS]


def _trust(ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise _no_pod(f"{ca} cannot be used: {error}") from error


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise _no_pod(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from error
    if not text or not text.isprintable():
        raise _no_pod(f"{path} is empty or damaged")
    return text


def _no_pod(why: str) -> SettingsError:
    return SettingsError(
        "this process has no access to a Kubernetes API",
        error_code="no-service-account",
        why=why,
        remedy="run it in a pod whose ServiceAccount's token is mounted, as the chart's Job does",
    )
