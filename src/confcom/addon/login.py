"""Log in to a cluster: `kubectl proxy` logs in as the user's kubectl does, and serves a private socket.

The user's kubectl handles exec plugins, OIDC, proxies, impersonation and a Pod's own account. The kubeconfig parser of
lightkube is not used: it ignores `as` silently, and does not know exec v1, `proxy-url` and `tls-server-name`.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2

from confcom.addon.api import Api, ClusterAccessError
from confcom.errors import MAX_FOREIGN_CHARACTERS, shortened
from confcom.kubernetes.kubectl_flags import Login
from confcom.kubernetes.objects import KubernetesObject, listing, text

VERSION_SECONDS = 10.0
"""Time within which kubectl must print its version, for which it asks nobody."""
PROXY_SECONDS = 30.0
"""Time within which kubectl proxy must listen on its socket; kubectl proxy logs in only afterwards."""
_IN_CLUSTER = "in-cluster"
"""The context's name in messages if confcom runs in a Pod and uses the Pod's own ServiceAccount."""
_PR_SET_PDEATHSIG = 1
"""The option of prctl(2) that sets which signal a process gets when its parent ends."""
_LOG_LINE = re.compile(rb"[IWEF][0-9]{4} ")
"""Start of a log line (klog). kubectl proxy logs each failed request, but confcom reports failures itself."""


@dataclass(frozen=True, slots=True)
class Cluster:
    namespace: str
    login: Login
    context: str
    server: str
    """The API server's URL."""
    api: Api

    @property
    def described(self) -> str:
        return f"{self.context} ({self.server})"

    def to_json(self) -> dict[str, str]:
        return {"context": self.context, "server": self.server, "namespace": self.namespace}


OpensCluster = Callable[[Login, str], contextlib.AbstractContextManager[Cluster]]
"""The type of `open_cluster`; tests replace this function with a cluster in memory."""


@contextlib.contextmanager
def open_cluster(login: Login, namespace: str) -> Iterator[Cluster]:
    """Log in to a cluster with kubectl proxy, which ends when the `with` block or this process ends."""
    context, server = _current_context(login)
    login = Login("" if context == _IN_CLUSTER else context, login.kubeconfig, login.user, login.groups)
    with _kubectl_proxy(login) as path, httpx2.HTTPTransport(uds=str(path)) as transport:
        api = Api(transport)
        api.log_in()
        yield Cluster(namespace, login, context, server, api)


def _current_context(login: Login) -> tuple[str, str]:
    """Return the current context and its server; the command keeps using them if the user switches."""
    command = ["kubectl", "config", "view", "--minify", "--output=json", *login.kubectl_flags()]
    failure = "the kubeconfig's context cannot be read"
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise not_run(failure, "kubectl", error) from error
    if done.returncode:
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        if host and not login.context and not login.kubeconfig:
            return _IN_CLUSTER, f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        raise ClusterAccessError(
            failure,
            error_code="no-context",
            why=_last_words(done.stderr),
            remedy="put the cluster's kubeconfig at ~/.kube/config, or name it with --kubeconfig or KUBECONFIG; "
            "`kubectl config get-contexts` lists its contexts, and --context chooses one",
        )
    try:
        config: KubernetesObject = json.loads(done.stdout)
    except ValueError as error:
        raise not_understood(failure, "kubectl", error) from error
    cluster = next(iter(listing(config, "clusters")), {})
    return text(config, "current-context"), text(cluster, "cluster", "server")


def kubectl_version() -> str:
    failure = "kubectl's version cannot be read"
    command = ["kubectl", "version", "--client", "--output=json"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=VERSION_SECONDS)
        return text(json.loads(done.stdout), "clientVersion", "gitVersion")
    except OSError as error:
        raise not_run(failure, "kubectl", error) from error
    except (ValueError, subprocess.TimeoutExpired) as error:
        raise not_understood(failure, "kubectl", error) from error


def not_run(failure: str, program: str, error: OSError) -> ClusterAccessError:
    why, remedy = f"{program} cannot be run: {error.strerror}", f"install {program}, and see that it is on PATH"
    return ClusterAccessError(failure, error_code="program-not-found", why=why, remedy=remedy)


def not_understood(failure: str, program: str, error: Exception) -> ClusterAccessError:
    why = f"the output of {program} cannot be understood: {shortened(' '.join(str(error).split()))}"
    return ClusterAccessError(failure, error_code="answer-not-understood", why=why, remedy=f"see the {program} on PATH")


@contextlib.contextmanager
def _kubectl_proxy(login: Login) -> Iterator[Path]:
    # On macOS, a socket's path may have at most 104 bytes, and the usual temporary folder has a long path.
    parent = "/tmp" if len(tempfile.gettempdir()) > 60 else None  # noqa: S108 # our folder in /tmp has mode 0700
    with tempfile.TemporaryDirectory(prefix="confcom-", dir=parent, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "api.sock"
        # kubectl proxy has its own session, so it survives a Ctrl-C; the command still needs the cluster then.
        # A login program that kubectl proxy starts in this session can still read the terminal.
        command = ["kubectl", "proxy", f"--unix-socket={path}", *login.kubectl_flags()]
        with subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_ends_with_parent(),  # noqa: PLW1509 # no thread has been started yet
        ) as process:
            said = bytearray()
            relay = threading.Thread(target=_relay, args=(process.stderr, said), daemon=True)
            relay.start()
            try:
                if not _listens(path, process):
                    process.kill()
                    relay.join(1)
                    why = _last_words(bytes(said))
                    raise ClusterAccessError("kubectl proxy does not listen", error_code="no-context", why=why)
                yield path
            finally:
                process.kill()
                relay.join(1)  # let the relay end before Popen closes stderr


def _ends_with_parent() -> Any:  # noqa: ANN401 # a callable or None
    """Return a function that ends a child when this process ends, even by SIGKILL. Off Linux, return None."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _relay(stream: IO[bytes], said: bytearray) -> None:
    """Copy kubectl's stderr to ours, even a prompt without a line end; keep the last bytes in `said`."""
    with contextlib.suppress(ValueError, OSError):  # the stream was closed while a login program used it
        while data := os.read(stream.fileno(), 1 << 16):  # kubectl writes whole lines
            lines = [line for line in data.splitlines(keepends=True) if not _LOG_LINE.match(line)]
            said += b"".join(lines)
            del said[:-MAX_FOREIGN_CHARACTERS]
            with contextlib.suppress(OSError):
                os.write(2, b"".join(lines))


def _listens(path: Path, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + PROXY_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return True
        time.sleep(0.01)
    return False


def _last_words(said: bytes) -> str:
    return " ".join(said.decode("utf-8", "replace").split())[-MAX_FOREIGN_CHARACTERS:] or "it said nothing"
