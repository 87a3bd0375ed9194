"""`confcom test` on the real cluster: the code of each failing node, and that nothing of a run is left."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from confcom.errors import ExitCode
from confcom.node_test.pod import GRACE_SECONDS, TEST_LABEL
from e2e.add_on import EPC, EPC_MIB, HELPER, HERE, PLUGIN, allocatable, processes_of, serves
from e2e.cluster import Cluster
from e2e.cluster.addresses import NODE_NAME
from e2e.confcom_command import JSON, confcom, document_of
from e2e.tenants import Tenant, container, pod
from e2e.waiting import until

Trouble = Callable[[Tenant, Path], AbstractContextManager[tuple[str, ...]]]
"""Makes a node's test fail inside of the block; yields the arguments for `confcom test`."""

pytestmark = pytest.mark.timeout(300, func_only=True)


@contextlib.contextmanager
def full_epc(tenant: Tenant, _folder: Path) -> Iterator[tuple[str, ...]]:
    tenant.create(pod("full", container("main", limits={EPC: int(EPC_MIB)}, program="import time; time.sleep(600)")))
    tenant.wait_for_phase("full", "Running")
    try:
        yield ()
    finally:
        tenant.kubectl("delete", "pod", "full", "--grace-period=0", "--force")


@contextlib.contextmanager
def tainted(tenant: Tenant, _folder: Path) -> Iterator[tuple[str, ...]]:
    tenant.kubectl("taint", "node", NODE_NAME, "case=tainted:NoSchedule")
    try:
        yield ()
    finally:
        tenant.kubectl("taint", "node", NODE_NAME, "case=tainted:NoSchedule-")


@contextlib.contextmanager
def limited(tenant: Tenant, _folder: Path) -> Iterator[tuple[str, ...]]:
    limits = [{"type": "Container", "max": {"cpu": "100m"}}]
    made = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": limits}}
    tenant.create(json.dumps(made))
    yield ("--namespace-for-test", tenant.namespace)


@contextlib.contextmanager
def other_root(tenant: Tenant, folder: Path) -> Iterator[tuple[str, ...]]:
    state, trust = str(folder / "state"), folder / "trust"
    confcom(tenant.cluster, "simulation", "create", state)
    confcom(tenant.cluster, "simulation", "export", f"--state-dir={state}", str(trust))
    yield ("--root", str(trust / "root.pem"), "--collateral", str(trust / "collateral"))


@contextlib.contextmanager
def hanging_helper(tenant: Tenant, _folder: Path) -> Iterator[tuple[str, ...]]:
    node, pids = tenant.cluster.node, processes_of(tenant.cluster.node, HELPER)
    node.run(["kill", "-STOP", *pids])
    try:
        yield ()
    finally:
        node.run(["kill", "-CONT", *pids], check=False)
        until(lambda: serves(tenant.cluster, [NODE_NAME]), "the helper serves", seconds=120)


@contextlib.contextmanager
def no_plugin(tenant: Tenant, _folder: Path) -> Iterator[tuple[str, ...]]:
    cluster, name = tenant.cluster, f"confcom-{PLUGIN}"
    cluster.kubectl("delete", "daemonset", name, HERE, "--wait", "--cascade=foreground")
    until(lambda: allocatable(cluster) in {"", "0"}, "the node offers no EPC", seconds=120)
    try:
        yield ()
    finally:
        confcom(cluster, "update")
        until(lambda: serves(cluster, [NODE_NAME]), "the plugin serves", seconds=120)


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        (hanging_helper, "answer-timeout"),
        (no_plugin, "pod-pending"),
        (full_epc, "pod-pending"),
        (tainted, "pod-pending"),
        (limited, "pod-refused"),
        (other_root, "root"),
    ],
)
def test_a_node_that_cannot_attest(
    installed: Cluster, namespace: str, tmp_path: Path, trouble: Trouble, code: str
) -> None:
    with trouble(Tenant(installed, namespace), tmp_path) as arguments:
        done = confcom(installed, "test", "--timeout=20", JSON, *arguments, code=ExitCode.NOT_READY)
    assert [one["cause"]["code"] for one in document_of(done)["results"]] == [code]
    until(lambda: not namespaces_of_tests(installed), "the namespace has gone")


def namespaces_of_tests(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.kubectl_json("get", "namespaces", f"--selector={TEST_LABEL}")["items"]
    return found


@pytest.mark.parametrize(("signal", "code"), [("INT", 130), ("TERM", 130), ("KILL", -9)])
def test_a_run_that_is_ended(installed: Cluster, namespace: str, tmp_path: Path, signal: str, code: int) -> None:
    seconds = 10
    ended = ["timeout", "--preserve-status", f"--signal={signal}", f"{seconds - 2}"]
    with tainted(Tenant(installed, namespace), tmp_path):
        command = [*ended, sys.executable, "-m", "confcom", "test", f"--timeout={seconds}"]
        assert installed.run(command, check=False, timeout=60).returncode == code
        if signal == "KILL":
            (left,) = namespaces_of_tests(installed)
            (stays,) = installed.kubectl_json("get", "pods", f"--namespace={left['metadata']['name']}")["items"]
            assert stays["spec"]["activeDeadlineSeconds"] == seconds + GRACE_SECONDS
            time.sleep(int(left["metadata"]["labels"][TEST_LABEL]))
    if signal == "KILL":
        confcom(installed, "test")
    until(lambda: not namespaces_of_tests(installed), "the namespace has gone")


@pytest.mark.parametrize(("staging", "code"), [("out-of-date", "tcb-status"), ("revoked", "tcb-revoked")])
def test_a_node_with_staged_collateral(installed: Cluster, staging: str, code: str) -> None:
    confcom(installed, "update", f"--set=simulated.staging={staging}")
    try:
        done = confcom(installed, "test", JSON, code=ExitCode.NOT_READY)
    finally:
        confcom(installed, "rollback")
    assert [one["cause"]["code"] for one in document_of(done)["results"]] == [code]
