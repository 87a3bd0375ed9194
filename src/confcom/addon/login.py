"""Log in to a cluster: `kubectl proxy` logs in as the user's kubectl does, and serves a private socket.

Exec plugins, OIDC, proxies, impersonation and a Pod's own account stay kubectl's work. lightkube's own parser of
kubeconfigs is not used: it ignores `as` silently, and does not know exec v1, `proxy-url` and `tls-server-name`.
"""

from __future__ import annotations

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
from confcom.kubernetes.objects import KubernetesObject, listing, text

PROXY_SECONDS = 30.0
"""Timeout for the start of kubectl proxy, which listens before it logs in."""
_IN_CLUSTER = "in-cluster"
"""Name shown as the context if a Pod logs in by its own ServiceAccount."""
_PR_SET_PDEATHSIG = 1
"""Option of prctl(2): the signal that a process gets when its parent ends."""
_LOG_LINE = re.compile(rb"[IWEF][0-9]{4} ")
"""Start of a line by klog: kubectl proxy logs each failed request, and the command reports the same error."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user's options for reaching a cluster; empty values leave the choice to kubectl and helm."""

    context: str = ""
    kubeconfig: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    """`user` and `groups` are to be impersonated."""

    def kubectl_flags(self) -> list[str]:
        return self._flags("--context", "--as", "--as-group")

    def helm_flags(self) -> list[str]:
        return self._flags("--kube-context", "--kube-as-user", "--kube-as-group")

    def _flags(self, context: str, user: str, group: str) -> list[str]:
        named = ((context, self.context), ("--kubeconfig", self.kubeconfig), (user, self.user))
        return [*(f"{flag}={value}" for flag, value in named if value), *(f"{group}={one}" for one in self.groups)]


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
"""The type of `open_cluster`; tests log in to a cluster in memory."""


@contextlib.contextmanager
def open_cluster(login: Login, namespace: str) -> Iterator[Cluster]:
    """Log in to a cluster with kubectl proxy, which ends with the context, and with this process."""
    context, server = _current_context(login)
    login = Login("" if context == _IN_CLUSTER else context, login.kubeconfig, login.user, login.groups)
    with _kubectl_proxy(login) as path, httpx2.HTTPTransport(uds=str(path)) as transport:
        api = Api(transport)
        api.log_in()
        yield Cluster(namespace, login, context, server, api)


def _current_context(login: Login) -> tuple[str, str]:
    """Return the context's name and server, to be used from now on: the user may switch contexts."""
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


def not_run(failure: str, program: str, error: OSError) -> ClusterAccessError:
    why, remedy = f"{program} cannot be run: {error.strerror}", f"install {program}, and see that it is on PATH"
    return ClusterAccessError(failure, error_code="program-not-found", why=why, remedy=remedy)


def not_understood(failure: str, program: str, error: Exception) -> ClusterAccessError:
    why = f"the output of {program} cannot be understood: {shortened(' '.join(str(error).split()))}"
    return ClusterAccessError(failure, error_code="answer-not-understood", why=why, remedy=f"see the {program} on PATH")


@contextlib.contextmanager
def _kubectl_proxy(login: Login) -> Iterator[Path]:
    # The socket's path has at most 104 bytes on macOS, whose own temporary folders have long names.
    parent = "/tmp" if len(tempfile.gettempdir()) > 60 else None  # noqa: S108 # the folder in it has mode 0700
    with tempfile.TemporaryDirectory(prefix="confcom-", dir=parent, ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "api.sock"
        # In its own session, kubectl proxy survives a Ctrl-C at the terminal: the command still needs the cluster
        # after it. A login may still read the terminal.
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
                relay.join(1)  # before its stream is closed


def _ends_with_parent() -> Any:  # noqa: ANN401 # a callable or None
    """Return a function that makes a child process end with this one, even by SIGKILL; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _relay(stream: IO[bytes], said: bytearray) -> None:
    """Copy kubectl's output to stderr, also a login's prompt without a line end, and keep its last bytes."""
    with contextlib.suppress(ValueError, OSError):  # the stream was closed, while a login program holds it
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
