"""Each way to log in to a real API server. Commands, including helm, can log in wherever kubectl can."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from confcom.errors import ExitCode
from e2e.cluster.certificates import issue, kubeconfig
from e2e.plain_api_server import ADMIN, PlainApiServer, serving
from e2e.relay import Relay

VIEWER, GROUP = "viewer", "team"
"""A user with all rights. Other users may not list nodes, so a login as one of them ends with 6."""
CONTEXT = "lab"
COMMAND_SECONDS = 120.0
PROMPT = "to log in, open https://login.test and enter 42-17"
PLUGIN = """#!{python}
import json, os, sys, time
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["apiVersion"] == "client.authentication.k8s.io/v1"
assert info["spec"]["cluster"]["server"] == {server!r}
print({prompt!r}, file=sys.stderr, flush=True)
later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
status = {{"token": {token!r}, "expirationTimestamp": later}}
print(json.dumps({{"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}}))
"""


@dataclass(frozen=True)
class Person:
    """A user of the commands, with a home folder of the case's own."""

    server: PlainApiServer
    folder: Path
    client: Path

    @property
    def token(self) -> dict[str, str]:
        return {"token": self.server.users[VIEWER]}

    def write(self, user: Mapping[str, Any], **of_cluster: str) -> Path:
        cluster = {"server": self.server.url, "certificate-authority": str(self.server.certificate), **of_cluster}
        path = self.folder / "config"
        path.write_text(kubeconfig(cluster, user, CONTEXT))
        return path

    def write_parts(self, name: str, **parts: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **parts}))
        return path

    def plugin(self) -> dict[str, Any]:
        """A kubeconfig user that logs in with an exec plugin, which prompts on stderr."""
        path = self.folder / "plugin"
        path.write_text(PLUGIN.format(python=sys.executable, prompt=PROMPT, server=self.server.url, **self.token))
        path.chmod(stat.S_IRWXU)
        how = {"interactiveMode": "IfAvailable", "provideClusterInfo": True}
        return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), **how}}

    def confcom(
        self, *arguments: str, kubeconfig: str | Path = "", before: tuple[str, ...] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        folders = {str(self.server.tools.path(program).parent) for program in ("kubectl", "helm")}
        environment = {
            "PATH": ":".join([*sorted(folders), os.environ["PATH"]]),
            "HOME": str(self.folder),
            **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {}),
            **more,
        }
        return subprocess.run(
            [*before, sys.executable, "-m", "confcom", *arguments, "--output=json"],
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def logs_in(self, *options: str, context: str = CONTEXT, server: str = "", **how: Any) -> str:
        """Log in through kubectl's proxy, then also through helm; return the text on stderr."""
        seen = self.confcom("status", *options, **how)
        assert seen.returncode == ExitCode.NOT_READY, seen.stdout + seen.stderr
        status = json.loads(seen.stdout)
        assert [one["code"] for one in status["problem_details"]] == ["not-enabled"]
        url = server or self.server.url
        assert status["cluster"] == {"context": context, "server": url, "namespace": "confcom-system"}
        assert seen.stderr.splitlines()[-1] == f"cluster: {context} ({url})"
        by_helm = self.confcom("update", *options, **how)
        assert by_helm.returncode == ExitCode.REFUSED, by_helm.stdout + by_helm.stderr
        assert json.loads(by_helm.stdout)["error"]["code"] == "not-enabled"
        return seen.stderr + by_helm.stderr

    def is_kept_out(self, *options: str, **how: Any) -> str:
        done = self.confcom("status", *options, **how)
        assert done.returncode == ExitCode.UNAVAILABLE, done.stdout + done.stderr
        return str(json.loads(done.stdout)["error"]["code"])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-signed client certificate."""
    folder = tmp_path_factory.mktemp("client")
    issue(VIEWER, None).write(folder, "client")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, client: Path) -> Iterator[PlainApiServer]:
    flags = [f"--client-ca-file={client / 'client.crt'}"]
    with serving(tmp_path_factory.mktemp("server"), [VIEWER], flags=flags) as running:
        rights = ("--clusterrole=cluster-admin", f"--user={VIEWER}", f"--group={GROUP}")
        running.kubectl("create", "clusterrolebinding", "viewers", *rights)
        yield running


@pytest.fixture
def person(server: PlainApiServer, client: Path, tmp_path: Path) -> Person:
    return Person(server, tmp_path, client)


def test_a_token(person):
    person.logs_in(kubeconfig=person.write(person.token))
    person.is_kept_out(kubeconfig=person.write({"token": "of nobody"}))


def test_a_client_certificate(person):
    files = {"client-certificate": "client.crt", "client-key": "client.key"}
    person.logs_in(kubeconfig=person.write({key: str(person.client / file) for key, file in files.items()}))


def test_an_exec_plugin_prompts_on_stderr(person):
    assert PROMPT in person.logs_in(kubeconfig=person.write(person.plugin()))


def test_impersonation_with_groups(person, server):
    admin = person.write({"token": server.users[ADMIN]})
    person.logs_in(kubeconfig=admin)
    person.logs_in("--as=ann", "--as-group=others", f"--as-group={GROUP}", kubeconfig=admin)
    assert person.is_kept_out("--as=ann", "--as-group=others", kubeconfig=admin) == "forbidden"
    person.logs_in(kubeconfig=person.write({"token": server.users[ADMIN], "as": "ann", "as-groups": [GROUP]}))
    by_file = person.write({"token": server.users[ADMIN], "as": "ann", "as-groups": ["others"]})
    assert person.is_kept_out(kubeconfig=by_file) == "forbidden"


def test_a_server_under_another_name(person, server):
    with Relay(server.port, address="127.0.0.2").serving() as other:
        url = f"https://127.0.0.2:{other.port}"  # the server's certificate does not have this address
        named = {"server": url, "tls-server-name": "kubernetes.default.svc"}
        person.logs_in(kubeconfig=person.write(person.token, **named), server=url)
        person.is_kept_out(kubeconfig=person.write(person.token, server=url))


def test_a_proxy(person, server):
    with Relay(server.port, asks=True).serving() as proxy:
        proxied = {"proxy-url": f"http://127.0.0.1:{proxy.port}"}
        person.logs_in(kubeconfig=person.write(person.token, **proxied))
        assert len(proxy.asked) >= 2
        assert {line.split()[1] for line in proxy.asked} == {server.url.removeprefix("https://")}


def test_several_files_and_contexts(person, server):
    cluster = {"server": server.url, "certificate-authority": str(server.certificate)}
    nowhere = {"server": "https://127.0.0.1:1"}
    clusters = [{"name": "there", "cluster": cluster}, {"name": "nowhere", "cluster": nowhere}]
    first = person.write_parts("first", clusters=clusters)
    contexts = [{"name": name, "context": {"cluster": name, "user": "somebody"}} for name in ("there", "nowhere")]
    rest = {"current-context": "nowhere", "contexts": contexts}
    second = person.write_parts("second", users=[{"name": "somebody", "user": person.token}], **rest)
    both = f"{first}:{second}"
    person.logs_in("--context=there", kubeconfig=both, context="there")
    person.is_kept_out(kubeconfig=both)
    assert person.is_kept_out("--context=elsewhere", kubeconfig=both) == "no-context"


def test_a_pods_own_account(person, server):
    account = "/run/secrets/kubernetes.io/serviceaccount"  # /var/run is /run
    token = person.folder / "token"
    token.write_text(server.users[VIEWER])
    script = f"""set -e
        mount -t tmpfs tmpfs /run
        mkdir -p {account}
        cp {token} {account}/token
        cp {server.certificate} {account}/ca.crt
        exec "$@" """
    pod = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.port)}
    before = ("unshare", "--mount", "sh", "-c", script, "sh")
    person.logs_in(before=before, context="in-cluster", **pod)
