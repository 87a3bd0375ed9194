"""What Pods do to the AESM socket's directory with a hostPath volume of it, out of malice or by mistake."""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from e2e import add_on
from e2e.add_on import EPC, SYSTEM
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import status_of
from e2e.tenants import Manifest, Tenant, container, pod, quoting_pod
from e2e.waiting import until

pytestmark = pytest.mark.timeout(420, func_only=True)

DIRECTORY = PurePosixPath("/var/run/aesmd")
SOCKET = DIRECTORY / "aesm.socket"
NOBODY = {"runAsUser": 1000, "runAsGroup": 1000}
"""A user who is neither root nor the helper's."""
LIST = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
print(sorted(os.listdir("/var/run/aesmd/aesm.socket")), flush=True)
signal.pause()
"""
CLOSE_THE_DIRECTORY = "import os; os.chmod('/var/run/aesmd', 0o700); os.chmod('/var/run/aesmd/aesm.socket', 0o600)"
TAKE_THE_DIRECTORY = """
import os, socket, time
early = socket.socket(socket.AF_UNIX)
early.connect("/var/run/aesmd/aesm.socket")
os.chown("/var/run/aesmd", 0, 0)
os.chmod("/var/run/aesmd", 0o700)
time.sleep(5)
early.sendall(b"\\xff" * 64)
early.settimeout(60)
print(early.recv(1))
"""
"""It sends garbage when the helper has already said why it is not ready."""


def with_host_path(name: str, path: PurePosixPath, program: str) -> Manifest:
    """A Pod of root's that has a path of the node, whatever is there, at the same place."""
    mounted = container("main", program=program, volumeMounts=[{"name": "host", "mountPath": str(path)}])
    volumes = [{"name": "host", "hostPath": {"path": str(path)}}]
    return pod(name, mounted, node=NODE_NAME, volumes=volumes, securityContext={"runAsUser": 0, "runAsGroup": 0})


def quote_as_nobody(tenant: Tenant, name: str) -> bytes:
    """Get a quote as a user without any right, from the node's helper."""
    manifest = quoting_pod(name, secrets.token_hex(8), {EPC: 1}, node=NODE_NAME, securityContext=NOBODY)
    tenant.create(manifest)
    tenant.wait_for_phase(name, "Succeeded")
    return tenant.quote(name)


@pytest.fixture
def directory(cluster: Cluster) -> Path:
    """The socket's directory on the node, as this machine reaches it."""
    # /var/run is a link to /run, which this machine would follow to its own.
    return cluster.node.inside(PurePosixPath("/run") / DIRECTORY.name)


@pytest.fixture
def mended(installed: Cluster) -> Iterator[Cluster]:
    """A cluster whose helper is started anew at the end, so that its init container mends the directory."""
    yield installed
    helpers = (f"--namespace={SYSTEM}", f"--selector={add_on.COMPONENT}={add_on.HELPER}")
    installed.kubectl("delete", "pods", *helpers, timeout=120)
    add_on.helper_on(installed, NODE_NAME)


def log(cluster: Cluster, name: str) -> list[dict[str, object]]:
    lines = cluster.kubectl("logs", f"--namespace={SYSTEM}", name).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def status_problems(cluster: Cluster) -> list[str]:
    problems: list[str] = status_of(cluster)["problems"]
    return problems


def test_a_socket_file_mounted_before_the_helper_is_there(cluster: Cluster, tenant: Tenant, directory: Path) -> None:
    add_on.uninstall(cluster)
    until(lambda: not (directory / SOCKET.name).exists(), "the socket has gone with its helper")
    tenant.create(with_host_path("early", SOCKET, LIST))
    tenant.wait_for_phase("early", "Running")
    assert (directory / SOCKET.name).is_dir()

    add_on.install(cluster)

    assert stat.S_ISSOCK((directory / SOCKET.name).lstat().st_mode)
    helper = add_on.helper_on(cluster, NODE_NAME)
    told = [line for line in log(cluster, helper["metadata"]["name"]) if line.get("event") == "empty-directory-removed"]
    assert len(told) == 1
    assert f" {DIRECTORY}," in str(told[0]["remedy"])
    assert quote_as_nobody(tenant, "late")
    # Who has mounted it keeps it: removed from the node, and empty.
    look = ("exec", "early", "--", "python", "-c", f"import os; print(os.listdir('{SOCKET}'))")
    assert tenant.kubectl(*look).stdout.strip() == "[]"
    tenant.delete("early")


def test_a_directory_that_a_pod_has_closed_is_opened_again(mended: Cluster, tenant: Tenant, directory: Path) -> None:
    tenant.create(with_host_path("closing", DIRECTORY, CLOSE_THE_DIRECTORY))
    tenant.wait_for_phase("closing", "Succeeded")
    until(lambda: stat.S_IMODE(directory.stat().st_mode) == 0o755, "the helper sets the directory's mode back")
    until(lambda: stat.S_IMODE((directory / SOCKET.name).stat().st_mode) == 0o666, "the helper sets the socket's mode")
    assert quote_as_nobody(tenant, "after")
    helper = add_on.helper_on(mended, NODE_NAME)
    told = [line for line in log(mended, helper["metadata"]["name"]) if line.get("event") == "mode-restored"]
    assert told


def test_a_directory_that_a_pod_took_is_named_and_mended(mended: Cluster, tenant: Tenant, directory: Path) -> None:
    helper = add_on.helper_on(mended, NODE_NAME)["metadata"]["name"]
    tenant.create(with_host_path("taking", DIRECTORY, TAKE_THE_DIRECTORY))

    reason = "(mode 0700, uid 0, gid 0)"
    until(lambda: any(reason in one for one in status_problems(mended)), "status tells why", seconds=60)
    tenant.wait_for_phase("taking", "Succeeded")
    until(lambda: any(one.get("event") == "malformed-request" for one in log(mended, helper)), "the garbage was logged")
    (problem,) = [one for one in status_problems(mended) if "not ready" in one]
    assert reason in problem
    assert "chown 10001 /var/run/aesmd && chmod 0755 /var/run/aesmd" in problem
    assert "malformed" not in problem

    mended.kubectl("delete", "pod", helper, f"--namespace={SYSTEM}", timeout=120)
    assert add_on.helper_on(mended, NODE_NAME)["metadata"]["name"] != helper
    assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert quote_as_nobody(tenant, "after")
