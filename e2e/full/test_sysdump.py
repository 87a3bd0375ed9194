"""`confcom sysdump` and `confcom version` on the real cluster: what the archive has, and that no secret is in it."""

from __future__ import annotations

import base64
import json
import tarfile
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from e2e.add_on import HERE, SYSTEM, install
from e2e.cluster import Cluster, Node
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import JSON, confcom, document_of
from e2e.progress import say
from e2e.tenants import Tenant, container, pod

pytestmark = pytest.mark.timeout(400, func_only=True)

USER, PASSWORD, VARIABLE, LOGIN = "planted-user", "planted-word", "planted-variable", "planted-login"


def secrets_of(cluster: Cluster) -> set[str]:
    """The values of all Secrets of the add-on's namespace: the simulated root, helm's records, a login."""
    found = cluster.kubectl_json("get", "secrets", HERE)["items"]
    values = {value for one in found for value in one.get("data", {}).values()}
    return values | {base64.b64decode(value).decode(errors="replace") for value in values}


def test_the_archive_has_all_but_secrets(
    cluster: Cluster, nodes: tuple[Node, Node, Node], namespace: str, tmp_path: Path
) -> None:
    install(cluster, [node.name for node in nodes])
    tenant = Tenant(cluster, namespace)
    program = "import time; time.sleep(600)"
    tenant.create(pod("has-a-secret", container("main", program=program, environment={"TOKEN": VARIABLE})))
    cluster.kubectl("create", "secret", "generic", "login", HERE, f"--from-literal=login={LOGIN}")
    proxy = f"--set=quoteHelper.collateral.proxy.https=http://{USER}:{PASSWORD}@proxy.test:3128"
    confcom(cluster, "update", proxy)
    path = tmp_path / "dump.tar.gz"
    try:
        done = document_of(confcom(cluster, "sysdump", str(path), JSON))
        secrets = secrets_of(cluster)
    finally:
        confcom(cluster, "rollback")
        cluster.kubectl("delete", "secret", "login", HERE)
    with tarfile.open(path) as packed:
        members = [one for one in packed if one.isfile()]
        files = {one.name.partition("/")[2]: packed.extractfile(one).read().decode() for one in members}  # type: ignore[union-attr]
    everything = "\n".join(files.values())
    assert "proxy.test:3128" in everything
    planted = {USER, PASSWORD, VARIABLE, LOGIN} | {one for one in secrets if len(one) > 8}
    assert [one for one in planted if one in everything] == []
    assert path.stat().st_mode & 0o777 == 0o600
    for component, pages in {"device-plugin": {"inventory.json"}, "quote-helper": {"platform.json"}}.items():
        pods = {name.split("/")[1] for name in files if name.startswith(f"pods/confcom-{component}")}
        assert len(pods) == len(nodes)
        for name in pods:
            assert {f"pods/{name}/{page}" for page in {"readyz.txt", "metrics.txt", "pod.json"} | pages} <= set(files)
    say("\n  ".join([f"{path.stat().st_size} bytes:", *sorted(files), *done["not_read"]]))


def test_versions_of_a_cluster(installed: Cluster) -> None:
    found = document_of(confcom(installed, "version", JSON))
    assert found["differ"] is False
    assert {kind for kind, counts in found["daemons"].items() if sum(counts.values())} >= {
        "device_plugin",
        "quote_helper",
    }
    assert json.dumps(found).count(found["program"]) > 1


def test_what_may_not_be_read_is_named(installed: Cluster, tmp_path: Path) -> None:
    asked = (f"--as={NODE_NAME}-nobody", "--as-group=system:authenticated")
    done = confcom(installed, "sysdump", str(tmp_path / "dump.tar.gz"), JSON, *asked)
    assert document_of(done)["not_read"]
    assert document_of(done)["files"][-1] == "not-read.txt"
    assert SYSTEM in json.dumps(document_of(done))
    assert done.returncode == ExitCode.OK
