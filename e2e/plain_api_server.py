"""An API server without anything else: etcd and kube-apiserver as plain processes, for what needs no node.

Nodes and Pods in it are objects that a test makes: no kubelet and no scheduler looks at them. Users have tokens.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from confcom.errors import UnavailableError
from e2e.cluster.tools import KUBERNETES, Tools, built
from e2e.processes import end

ADMIN = "admin"
START_SECONDS = 600.0
"""For the API server, on a machine that is busy."""
STOP_SECONDS = 30.0
REQUEST_SECONDS = 120.0
NICENESS = 19
NICE = ("nice", "-n", str(NICENESS))
_WITH_US = ("setpriv", "--pdeathsig=KILL")
"""Ends a process when its parent ends, however that may be."""


def plain_tools(kubernetes: str = KUBERNETES) -> Tools:
    """Find etcd, kube-apiserver, kubectl and helm, which the cluster's tests build; Kubernetes by its folder there."""
    folders = [built(name) for name in ("etcd", kubernetes, "helm")]
    if None in folders:
        raise UnavailableError("the cluster's programs are not built", remedy="run python -m e2e.cluster first")
    return Tools(folders=tuple(folder for folder in folders if folder), cni=Path())


@dataclass(slots=True)
class PlainApiServer:
    """A running API server; `serving` makes one. Users have tokens; etcd has a port for clients and one for members.

    `flags` are more of kube-apiserver's.
    """

    folder: Path
    tools: Tools
    port: int
    etcd_ports: tuple[int, int]
    users: dict[str, str] = field(default_factory=dict)
    niceness: int = NICENESS
    flags: tuple[str, ...] = ()
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def certificate(self) -> Path:
        """Its own certificate, by which clients know it."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def kubeconfig(self, user: str = ADMIN) -> Path:
        path = self.folder / f"{user.replace(':', '-')}.kubeconfig"
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "plain", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": self.users[user]}}],
            "contexts": [{"name": "plain", "context": {"cluster": "plain", "user": "user"}}],
            "current-context": "plain",
        }
        path.write_text(json.dumps(content))
        return path

    def client(self, user: str = ADMIN) -> httpx2.Client:
        return httpx2.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.users[user]}"},
            verify=False,  # the certificate is the server's own, made at its start
            timeout=REQUEST_SECONDS,
            trust_env=False,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = [str(self.tools.path("kubectl")), f"--kubeconfig={self.kubeconfig()}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"kubectl {' '.join(arguments)} failed", why=done.stderr.strip())
        return done.stdout

    def start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in self.etcd_ports)
        self._start(
            "etcd",
            [
                str(self.tools.path("server")),
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",
                "--quota-backend-bytes=4294967296",
            ],
        )

    def start(self) -> None:
        tokens = "".join(
            f'{token},{user},{user},"{"system:masters" if user == ADMIN else "system:serviceaccounts"}"\n'
            for user, token in self.users.items()
        )
        (self.folder / "tokens.csv").write_text(tokens)
        self._start(
            "apiserver",
            [
                str(self.tools.path("kube-apiserver")),
                f"--etcd-servers=http://127.0.0.1:{self.etcd_ports[0]}",
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
            ],
        )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    if client.get("/readyz").status_code == httpx2.codes.OK:
                        return
                if time.monotonic() > deadline or self._running["apiserver"].poll() is not None:
                    raise UnavailableError("the API server is not ready", remedy=f"read {self.folder}/apiserver.log")
                time.sleep(0.25)

    def stop(self, name: str = "apiserver") -> None:
        end(self._running.pop(name), STOP_SECONDS)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def close(self) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def _start(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*_WITH_US, "nice", "-n", str(self.niceness), *command], stdout=log, stderr=log, start_new_session=True
            )


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
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "accounts.key").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.pub").write_bytes(public)
    tokens = {user: secrets.token_hex(16) for user in (ADMIN, *users)}
    ports = (_free_port(), _free_port())
    server = PlainApiServer(folder, plain_tools(kubernetes), _free_port(), ports, tokens, niceness, tuple(flags))
    try:
        server.start_etcd()
        server.start()
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
