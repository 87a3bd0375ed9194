"""An API server alone, for tests without nodes: etcd and kube-apiserver as plain processes."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from confcom.errors import UnavailableError
from e2e.add_on import HERE, RELEASE, ROOT
from e2e.cluster.certificates import kubeconfig, write_accounts
from e2e.cluster.components import etcd_flags
from e2e.cluster.tools import KUBERNETES, Tools, build
from e2e.waiting import end, until

ADMIN = "admin"
START_SECONDS = 600.0
"""Seconds for the API server to start on a busy machine."""
STOP_SECONDS = 30.0
REQUEST_SECONDS = 120.0
NICENESS = 19
NICE = ("nice", "-n", str(NICENESS))
_WITH_US = ("setpriv", "--pdeathsig=KILL")
"""Command prefix that ends a process when its parent ends, even by SIGKILL."""


def _free_port() -> int:
    """Return a free port below the range that the kernel assigns by itself (32768 to 60999)."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(slots=True)
class PlainApiServer:
    """A running API server, which `serving` makes. `users` maps each user's name to a token."""

    folder: Path
    tools: Tools
    users: dict[str, str]
    niceness: int
    flags: tuple[str, ...]
    port: int = field(default_factory=_free_port)
    etcd_port: int = field(default_factory=_free_port)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def certificate(self) -> Path:
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, user: str = ADMIN, port: int = 0) -> Path:
        """Path of a user's kubeconfig; with `port`, the kubeconfig connects to this port of the machine."""
        path = self.folder / f"{user.replace(':', '-')}-{port}.kubeconfig"
        cluster = {
            "server": f"https://127.0.0.1:{port or self.port}",
            "certificate-authority": str(self.certificate),
        }
        path.write_text(kubeconfig(cluster, {"token": self.users[user]}, "plain"))
        return path

    def client(self, user: str = ADMIN) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.users[user]}"},
            verify=False,  # the server has made its own certificate at its start
            timeout=REQUEST_SECONDS,
            trust_env=False,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [str(self.tools.path("kubectl")), f"--kubeconfig={self.kubeconfig()}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"kubectl {' '.join(arguments)} failed", why=done.stderr.strip())
        return done.stdout

    def helm(self, verb: str, *flags: str) -> str:
        """Run helm template, or helm install, on the chart, and return helm's output."""
        command = [str(self.tools.path("helm")), verb, RELEASE, str(ROOT / "charts" / "confcom")]
        command += [HERE, f"--kubeconfig={self.kubeconfig()}", *flags]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def start(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self.etcd_port, _free_port()))
        self._start("server", *etcd_flags(self.folder / "etcd", client, peer), "--quota-backend-bytes=4294967296")
        groups = {user: "system:masters" if user == ADMIN else "system:serviceaccounts" for user in self.users}
        tokens = "".join(f'{token},{user},{user},"{groups[user]}"\n' for user, token in self.users.items())
        (self.folder / "tokens.csv").write_text(tokens)
        write_accounts(self.folder)
        self._start(
            "kube-apiserver",
            f"--etcd-servers={client}",
            f"--secure-port={self.port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--cert-dir={self.folder / 'certificates'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition,DefaultTolerationSeconds",
            "--service-account-issuer=https://plain.test",
            f"--service-account-key-file={self.folder / 'accounts.pub'}",
            f"--service-account-signing-key-file={self.folder / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",
            *self.flags,
        )
        with self.client() as readiness:

            def is_ready() -> bool:
                assert self._running["kube-apiserver"].poll() is None, f"read {self.folder}/kube-apiserver.log"
                with contextlib.suppress(httpx2.HTTPError):
                    return readiness.get("/readyz").status_code == httpx2.codes.OK
                return False

            until(is_ready, "the API server is ready", seconds=START_SECONDS)

    @property
    def pid(self) -> int:
        return self._running["kube-apiserver"].pid

    def close(self) -> None:
        for process in reversed(self._running.values()):
            end(process, STOP_SECONDS)

    def _start(self, program: str, *flags: str) -> None:
        command = [*_WITH_US, "nice", "-n", str(self.niceness), str(self.tools.path(program)), *flags]
        with (self.folder / f"{program}.log").open("ab") as log:
            self._running[program] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


@contextlib.contextmanager
def serving(
    folder: Path,
    users: Sequence[str] = (),
    *,
    niceness: int = NICENESS,
    flags: Sequence[str] = (),
    kubernetes: str = KUBERNETES,
) -> Iterator[PlainApiServer]:
    """Run an API server in a folder, with an administrator and users in the group of all ServiceAccounts."""
    tools = Tools(tuple(map(build, ("etcd", kubernetes, "helm"))))
    tokens = {user: secrets.token_hex(16) for user in (ADMIN, *users)}
    server = PlainApiServer(folder, tools, tokens, niceness, tuple(flags))
    try:
        server.start()
        yield server
    finally:
        server.close()
