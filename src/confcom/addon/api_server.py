"""Creating one object on the API server from inside a pod, with the standard library only.

http.client and not urllib.request, because that one follows redirects with the token in its headers, and lets proxy
variables of the environment lead a cluster's inner traffic outside.
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

from confcom.errors import ConfcomError, SettingsError, UnavailableError

SERVICE_ACCOUNT_DIRECTORY = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet mounts a pod's token, the API server's CA and the namespace (Kubernetes: "Accessing the API from a
Pod")."""
REQUEST_SECONDS = 10.0
"""For each step of one request. Creating an object takes milliseconds; the API server itself gives up after 60 s."""
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0)
"""Seconds between attempts. 24 s outlast an API server's restart and a Role that was applied just after the Job;
beyond that the Job's own retries go on."""
MAX_ANSWER_BYTES = 64 * 1024
"""What is read of an answer: a Status takes under 1 KiB, and of a created object nothing is looked at."""
_MAX_MESSAGE_CHARACTERS = 500
"""Of an API server's message in ours; its own are one or two sentences."""


class ApiRefusedError(ConfcomError):
    """The API server understood and said no; asking again would not help."""


class Creation(Enum):
    """How an object came to be there."""

    CREATED = "created"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """An HTTP answer of the API server."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class InClusterApi:
    """The API server as a pod reaches it, with the pod's own identity."""

    host: str
    port: int
    directory: Path
    namespace: str

    @classmethod
    def find(cls, environ: Mapping[str, str], directory: Path = SERVICE_ACCOUNT_DIRECTORY) -> InClusterApi:
        """Find it by what the kubelet gave the pod.

        Args:
            environ: has KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT.
            directory: has `token`, `ca.crt` and `namespace`.

        Raises:
            SettingsError: this is no pod, or one without a ServiceAccount's token.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal():
            raise _no_pod("the variables KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
        return cls(host, int(port), directory, _read(directory / "namespace"))

    def post(self, path: str, body: bytes) -> ApiAnswer:
        """Send one POST request of JSON.

        Raises:
            OSError, http.client.HTTPException: no answer came.
            SettingsError: the pod's token or CA cannot be read.
        """
        # Read anew each time: the kubelet renews the token.
        token = _read(self.directory / "token")
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=REQUEST_SECONDS, context=_trust(self.directory / "ca.crt")
        )
        try:
            connection.request(
                "POST",
                path,
                body=body,
                headers={
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                },
            )
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
    """Create an object if there is none by its name; never replace one, never read one.

    Args:
        post: one attempt.
        what: names the object in errors.
        sleep: waits so many seconds.
        delays: between attempts; there is one attempt more than delays.

    Raises:
        ApiRefusedError: the API server will not have it.
        UnavailableError: no usable answer came in all attempts.
    """
    waits: Iterator[float] = iter(delays)
    while True:
        try:
            problem = _judge(post(), what)
        except ssl.SSLCertVerificationError as error:
            raise UnavailableError(
                f"{what} cannot be created",
                why=f"what answers as the API server has a certificate that the pod's CA did not issue: "
                f"{error.verify_message}",
                remedy="check that nothing stands between pods and the API server",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            problem = f"the API server did not answer: {error or type(error).__name__}"
        if isinstance(problem, Creation):
            return problem
        wait = next(waits, None)
        if wait is None:
            raise UnavailableError(
                f"{what} cannot be created after {len(delays) + 1} attempts",
                why=problem,
                remedy="check the API server, and that this pod's ServiceAccount may create Secrets in its namespace",
            )
        sleep(wait)


def _judge(answer: ApiAnswer, what: str) -> Creation | str:
    """The outcome, or why it is worth asking again."""
    if answer.status == HTTPStatus.CREATED:
        return Creation.CREATED
    reason, message = _status_of(answer)
    if answer.status == HTTPStatus.CONFLICT and reason == "AlreadyExists":
        return Creation.EXISTS
    told = f"the API server answered {answer.status}" + (f": {message}" if message else "")
    # 401 and 403 too: a token or Role that is being created at this moment takes a while to be known.
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
        why=why,
        remedy="run it in a pod whose ServiceAccount's token is mounted, as the chart's Job does",
    )
