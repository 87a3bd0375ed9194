"""Tenants of a node, who create and delete Pods with EPC all the time."""

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
"""Seconds between the creations of two Pods on a node."""
MOST = 12
"""Largest number of Pods on a node: more Pods would only wait for EPC, or for the machine."""
SHARE = 3
"""Most Pods want up to a third of a node's EPC, so that the node is full and always runs several Pods."""
LARGE = 0.1
"""Share of the Pods that may want all EPC of a node."""
BYTES_NAME = "sgx.intel.com/epc"
SHORT_SECONDS = (0.2, 3.0)
"""Shortest and longest run time, in seconds, of programs that end by themselves."""
LIFE_SECONDS = (3.0, 25.0)
"""Shortest and longest time, in seconds, after which a Pod that does not end by itself is deleted."""
PATIENCE_SECONDS = 25.0
"""Age in seconds at which a Pod that would end by itself is deleted; most Pods of this age wait for EPC."""
HOLD = "trap 'exit 0' TERM; sleep 3600 & wait $!"


def tenant_pod(name: str, node: str, limits: dict[str, int | str], *, seconds: float | None) -> Manifest:
    """A Pod that runs a program for `seconds`, or (None) holds its EPC until the Pod is deleted."""
    program = HOLD if seconds is None else f"sleep {seconds:.2f}"
    main = container("main", limits=limits, command=["/bin/sh", "-c", program])
    # If a container that holds EPC ends, the kubelet restarts the container, and the restart shows the end.
    restart = "Always" if seconds is None else "Never"
    return pod(name, main, node=node, restartPolicy=restart, automountServiceAccountToken=False)


@dataclass(slots=True)
class Tenants:
    """Tenants of one node; a thread runs `work`."""

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
