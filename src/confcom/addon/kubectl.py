"""Reading a cluster's simulated platform with kubectl, as the person who runs it.

kubectl and not a library: whoever has a cluster has it, with contexts, credential plugins and proxies that work.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confcom.addon.platform_secret import SECRET_NAME, decode_secret
from confcom.errors import UnavailableError
from confcom.simulation.platform import SimulatedPlatform

DEFAULT_NAMESPACE = "confcom-system"
"""Where the documentation installs the chart."""
API_SECONDS = 20
"""What kubectl gives the API server; without it, kubectl waits for ever."""
_TIMEOUT = f"--request-timeout={API_SECONDS}s"
KUBECTL_SECONDS = 60.0
"""For the whole of kubectl, a credential plugin that asks a person to log in included."""
_MAX_MESSAGE_CHARACTERS = 500
"""Of kubectl's message in ours: its last words say what failed."""
_LOG_LINE = re.compile(r"[IWEF][0-9]{4} ")
"""How klog begins a line: kubectl logs each attempt in this way, before it says in plain words what failed."""

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[bytes]"]


class ClusterAccessError(UnavailableError):
    """The cluster, or what was to be read there, cannot be reached with this person's kubectl."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster, and where in it."""

    namespace: str = DEFAULT_NAMESPACE
    context: str = ""
    """A name in the kubeconfig; empty: the current one."""

    def get_secret(self, output: str) -> list[str]:
        """The kubectl command line; values are joined to their flags, so that none can be taken for a flag itself."""
        context = [f"--context={self.context}"] if self.context else []
        namespace = f"--namespace={self.namespace}"
        return ["kubectl", "get", "secret", SECRET_NAME, namespace, *context, f"--output={output}", _TIMEOUT]

    def by_hand(self) -> str:
        """What a person can type to see the same failure, without printing the secret should it succeed."""
        return f"try by hand: {shlex.join(self.get_secret('name'))}"


def run_kubectl(arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    """Run kubectl with this process's environment and terminal input, and collect what it says.

    Raises:
        OSError, subprocess.TimeoutExpired: it could not be run, or did not end.
    """
    return subprocess.run(arguments, capture_output=True, timeout=KUBECTL_SECONDS, check=False)


def read_platform(cluster: Cluster, *, run: Run = run_kubectl) -> SimulatedPlatform:
    """Read the simulated platform of a cluster. It stays in memory: only what is exported from it is written.

    Args:
        cluster: which.
        run: runs one command.

    Raises:
        ClusterAccessError: kubectl is not there, the cluster does not answer or does not permit it, or has no root.
        MalformedError: the Secret is not ours, or damaged.
    """
    try:
        done = run(cluster.get_secret("json"))
    except FileNotFoundError as error:
        raise ClusterAccessError(
            "the cluster cannot be asked for its simulated root",
            why="there is no kubectl on PATH",
            remedy="install kubectl; or, for a platform on this machine, give --state-dir",
        ) from error
    except OSError as error:
        raise ClusterAccessError(
            "kubectl cannot be run", why=error.strerror or str(error), remedy="check the kubectl on PATH"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ClusterAccessError(
            f"kubectl did not end within {KUBECTL_SECONDS:.0f} s",
            why=_last_words(error.stderr) or "the cluster does not answer, or a login waits for somebody",
            remedy=cluster.by_hand(),
        ) from error
    if done.returncode != 0:
        raise _explained(cluster, done.stderr)
    return decode_secret(done.stdout)


def _explained(cluster: Cluster, stderr: bytes) -> ClusterAccessError:
    where = f"in the namespace {cluster.namespace}" + (f" of {cluster.context}" if cluster.context else "")
    if b"(NotFound)" in stderr:
        return ClusterAccessError(
            f"there is no Secret {SECRET_NAME} {where}",
            why="the chart is not installed there with simulated.enabled=true, or its Job has not succeeded yet",
            remedy="name the installation's namespace with --namespace (`helm list -A` shows it) and the cluster with "
            "--context",
        )
    if b"(Forbidden)" in stderr:
        return ClusterAccessError(
            f"this user may not read the Secret {SECRET_NAME} {where}",
            why=_last_words(stderr),
            remedy="ask someone who may to export; the files written are public",
        )
    return ClusterAccessError(
        "the cluster cannot be asked for its simulated root",
        why=_last_words(stderr) or "kubectl said nothing",
        remedy=cluster.by_hand(),
    )


def _last_words(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode("utf-8", errors="replace").split("\n")
    telling = [line for line in lines if not _LOG_LINE.match(line)]
    return " ".join(" ".join(telling).split())[-_MAX_MESSAGE_CHARACTERS:]
