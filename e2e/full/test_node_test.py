"""`confcom test` on the real cluster: the code of each failing node, and that nothing of a run is left."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from confcom.errors import ExitCode
from confcom.node_test.pod import TEST_LABEL
from e2e.add_on import EPC, EPC_MIB
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


@pytest.mark.parametrize(
    ("trouble", "code"),
    [(full_epc, "pod-pending"), (tainted, "pod-pending"), (limited, "pod-refused"), (other_root, "root")],
)
def test_a_node_that_cannot_attest(
    installed: Cluster, namespace: str, tmp_path: Path, trouble: Trouble, code: str
) -> None:
    with trouble(Tenant(installed, namespace), tmp_path) as arguments:
        done = confcom(installed, "test", "--timeout=20", JSON, *arguments, code=ExitCode.NOT_READY)
    assert [one["cause"]["code"] for one in document_of(done)["results"]] == [code]
    left = ("get", "namespaces", f"--selector={TEST_LABEL}")
    until(lambda: not installed.kubectl_json(*left)["items"], "the namespace has gone")


@pytest.mark.parametrize(("staging", "code"), [("out-of-date", "tcb-status"), ("revoked", "tcb-revoked")])
def test_a_node_with_staged_collateral(installed: Cluster, staging: str, code: str) -> None:
    confcom(installed, "update", f"--set=simulated.staging={staging}")
    try:
        done = confcom(installed, "test", JSON, code=ExitCode.NOT_READY)
    finally:
        confcom(installed, "rollback")
    assert [one["cause"]["code"] for one in document_of(done)["results"]] == [code]
