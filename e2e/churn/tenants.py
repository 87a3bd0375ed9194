"""Tenants of a node, who make and delete Pods with EPC all the time."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from confcom.kubernetes.objects import TERMINAL
from e2e.add_on import EPC
from e2e.churn.ledger import Ledger
from e2e.tenants import Manifest, Tenant, container, pod

PAUSE_SECONDS = 1.0
"""Between two Pods of a node."""
MOST = 12
"""Pods of a node at a time: more would wait for EPC only, or for the machine."""
SHARE = 3
"""Most Pods want up to a third of a node's EPC, so that it is full all the time, and several run."""
LARGE = 0.1
"""Of all Pods, those that may want all of it."""
BYTES_NAME = "sgx.intel.com/epc"
SHORT_SECONDS = (0.2, 3.0)
"""How long programs run that end by themselves."""
LIFE_SECONDS = (3.0, 25.0)
"""How long Pods that end not by themselves are left alone."""
PATIENCE_SECONDS = 25.0
"""After it those Pods are deleted too that have not ended by themselves: most of these wait for EPC."""
HOLD = "trap 'exit 0' TERM; sleep 3600 & wait $!"


def tenant_pod(name: str, node: str, limits: dict[str, int | str], *, seconds: float | None) -> Manifest:
    """A Pod that runs a program for some seconds, or holds its EPC until it is deleted (None)."""
    program = HOLD if seconds is None else f"sleep {seconds:.2f}"
    main = container("main", limits=limits, command=["/bin/sh", "-c", program])
    # One that holds would be started again, and that is how it is seen that it ended.
    restart = "Always" if seconds is None else "Never"
    return pod(name, main, node=node, restartPolicy=restart, automountServiceAccountToken=False)


@dataclass(slots=True)
class Tenants:
    """Those of one node; `work` is for a thread."""

    tenant: Tenant
    ledger: Ledger
    node: str
    epc_mib: int
    choose: random.Random
    made: int = 0
    _due: dict[str, float] = field(default_factory=dict)

    def work(self, until: threading.Event) -> None:
        while not until.wait(PAUSE_SECONDS):
            self._delete_what_is_due(time.monotonic())
            if len(self._there()) < MOST:
                self._make_another(time.monotonic())

    def delete_all(self) -> None:
        for name in self._there():
            self._delete(name)

    def _there(self) -> list[str]:
        return [name for name in self.ledger.phases() if name.startswith(f"{self.node}-tenant-")]

    def _delete_what_is_due(self, now: float) -> None:
        phases = self.ledger.phases()
        for name, due in list(self._due.items()):
            if now >= due or phases.get(name) in TERMINAL:
                self._delete(name)

    def _delete(self, name: str) -> None:
        self._due.pop(name, None)
        self.ledger.expect_deletion(name)
        self.tenant.kubectl("delete", "pod", name, "--ignore-not-found", "--wait=false")

    def _make_another(self, now: float) -> None:
        self.made += 1
        name = f"{self.node}-tenant-{self.made}"
        mib = self.choose.randint(1, self.epc_mib if self.choose.random() < LARGE else self.epc_mib // SHARE)
        limits: dict[str, int | str] = self.choose.choice([{EPC: mib}, {BYTES_NAME: f"{mib}Mi"}])
        seconds = self.choose.choice([None, self.choose.uniform(*SHORT_SECONDS)])
        self._due[name] = now + (self.choose.uniform(*LIFE_SECONDS) if seconds is None else PATIENCE_SECONDS)
        self.tenant.create(tenant_pod(name, self.node, limits, seconds=seconds))
