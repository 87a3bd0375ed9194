"""Creating, reading and deleting single objects on the API server from inside a pod, with the standard library only.

It uses http.client and not urllib.request: the latter follows redirects with the token in its headers, and the proxy
variables of the environment would send the cluster's internal traffic outside.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from confcom.errors import ConfcomError, SettingsError, UnavailableError

T = TypeVar("T")

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
_MAX_MESSAGE_CHARACTERS = 500
"""Limit of the API server's message within an error; the API server's own messages are one or two sentences."""


class ApiRefusedError(ConfcomError):
    """The API server refused the request for good: a retry would not help."""

    error_code = "api-server-refused"


class Creation(Enum):
    """Whether an object was created, or existed already."""

    CREATED = "created"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An HTTP answer of the API server."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class InClusterApi:
    """A client for the API server inside a pod, with the pod's ServiceAccount."""

    host: str
    port: int
    directory: Path
    namespace: str

    @classmethod
    def find(cls, environ: Mapping[str, str], directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> InClusterApi:
        """Create the client from the environment and the files that the kubelet gives a pod.

        Args:
            environ: contains KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
            directory: contains `token`, `ca.crt` and `namespace`.

        Raises:
            SettingsError: this is not a pod, or a pod without a ServiceAccount's token.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal():
            raise _no_pod("the variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
        return cls(host, int(port), directory, _read(directory / "namespace"))

    def post(self, path: str, body: bytes) -> ApiAnswer:
        """Send one POST request with a JSON body; raises the errors of `request`."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: bytes | None = None) -> ApiAnswer:
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


def create_object(
    post: Callable[[], ApiAnswer],
    *,
    what: str,
    sleep: Callable[[float], None],
    delays: tuple[float, ...] = RETRY_DELAYS,
) -> Creation:
    """Create an object unless one of that name exists; never replace or read the existing one.

    Args:
        post: sends one request.
        what: the object's name in errors.
        sleep: waits for a number of seconds.
        delays: seconds between attempts; there is one attempt more than delays.

    Raises:
        ApiRefusedError: the API server refused it for good.
        UnavailableError: no attempt got a usable answer.
    """

    def outcome(answer: ApiAnswer) -> Creation | None:
        if answer.status == HTTPStatus.CREATED:
            return Creation.CREATED
        exists = answer.status == HTTPStatus.CONFLICT and _status_of(answer)[0] == "AlreadyExists"
        return Creation.EXISTS if exists else None

    return _repeat(post, outcome, what=what, failure="cannot be created", sleep=sleep, delays=delays)


def read_object(
    get: Callable[[], ApiAnswer],
    *,
    what: str,
    sleep: Callable[[float], None],
    delays: tuple[float, ...] = RETRY_DELAYS,
) -> bytes | None:
    """Read an object's JSON; None if it does not exist. Arguments and errors are those of `create_object`."""

    def outcome(answer: ApiAnswer) -> tuple[bytes | None] | None:
        if answer.status == HTTPStatus.OK:
            return (answer.body,)
        return (None,) if answer.status == HTTPStatus.NOT_FOUND else None

    return _repeat(get, outcome, what=what, failure="cannot be read", sleep=sleep, delays=delays)[0]


def delete_object(
    delete: Callable[[], ApiAnswer],
    *,
    what: str,
    sleep: Callable[[float], None],
    delays: tuple[float, ...] = RETRY_DELAYS,
) -> None:
    """Delete an object; a missing object is no error. Arguments and errors are those of `create_object`."""

    def outcome(answer: ApiAnswer) -> bool | None:
        return answer.status in {HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NOT_FOUND} or None

    _repeat(delete, outcome, what=what, failure="cannot be deleted", sleep=sleep, delays=delays)


def _repeat(
    attempt: Callable[[], ApiAnswer],
    outcome: Callable[[ApiAnswer], T | None],
    *,
    what: str,
    failure: str,
    sleep: Callable[[float], None],
    delays: tuple[float, ...],
) -> T:
    """Repeat a request until there is an outcome; raise at a permanent refusal, or when the attempts are used up."""
    waits: Iterator[float] = iter(delays)
    while True:
        try:
            answer = attempt()
        except ssl.SSLCertVerificationError as error:
            raise UnavailableError(
                f"{what} {failure}",
                error_code="api-server-not-trusted",
                why=f"what answers as the API server has a certificate that the pod's CA did not issue: "
                f"{error.verify_message}",
                remedy="check that nothing stands between pods and the API server",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            problem = f"the API server did not answer: {error or type(error).__name__}"
        else:
            if (found := outcome(answer)) is not None:
                return found
            problem = _passing_problem(answer, what)
        wait = next(waits, None)
        if wait is None:
            raise UnavailableError(
                f"{what} {failure} after {len(delays) + 1} attempts",
                error_code="api-server-unavailable",
                why=problem,
                remedy="check the API server, and that this pod's ServiceAccount has the rights of the chart's Role",
            )
        sleep(wait)


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
