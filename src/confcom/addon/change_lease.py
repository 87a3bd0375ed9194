"""A Lease in the release's namespace allows one change of the add-on at a time; the command renews it.

A plain `helm upgrade` ignores the Lease.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confcom.addon.api import LEASE, ClusterAccessError
from confcom.addon.login import Cluster
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.names import NAME_LABEL, RELEASE
from confcom.kubernetes.objects import KubernetesObject, mapping, text, time_of

LEASE_NAME = "confcom-change"
RENEW_SECONDS = 10.0
"""Interval of the renewals: two may fail before the Lease expires."""
EXPIRES_SECONDS = 30
"""Time after the last renewal when another command may take over the Lease, since its holder was killed."""


class ChangeRefusedError(ConfcomError):
    """The requested change is not possible now, or not allowed; nothing was changed."""

    exit_code = ExitCode.REFUSED


def holder_name(command: str) -> str:
    """Return the name of this process as a Lease's holder, as in `enable by ann on host, process 7`."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or f"user {os.getuid()}"
    return f"{command} by {user} on {socket.gethostname()}, process {os.getpid()}"


@contextlib.contextmanager
def change_lease(
    cluster: Cluster,
    holder: str,
    now: Callable[[], datetime],
    *,
    remove: bool = False,
    renew_seconds: float = RENEW_SECONDS,
) -> Iterator[None]:
    """Hold the Lease until the context ends; with `remove`, delete the Lease unless the context fails."""
    lease = _ChangeLease(cluster, holder, now)
    lease.acquire()
    ended, delete = threading.Event(), False
    renewal = threading.Thread(target=lease.renew_until, args=(ended, renew_seconds), daemon=True)
    renewal.start()
    try:
        yield
        delete = remove
    finally:
        ended.set()
        renewal.join()
        lease.release(delete=delete)


@dataclass(frozen=True, slots=True)
class _ChangeLease:
    cluster: Cluster
    holder: str
    now: Callable[[], datetime]

    def acquire(self) -> None:
        found = self._read()
        holder, renewed = text(found, "spec", "holderIdentity"), time_of(text(found, "spec", "renewTime"))
        left = EXPIRES_SECONDS - (self.now() - renewed).total_seconds() if renewed else 0.0
        if holder and left > 0:
            raise ChangeRefusedError(
                "nothing was changed: another change of the add-on is running",
                error_code="change-running",
                why=f"the Lease {LEASE_NAME} in {self.cluster.namespace} is held by: {holder}",
                remedy="run the same command again when that one has ended; if it was killed, the Lease expires in "
                f"{left:.0f} s",
            )
        lease = self._held(found)
        if not (self.cluster.api.replace(lease) if found else self.cluster.api.create(lease)):
            raise ChangeRefusedError(
                "nothing was changed: another change of the add-on began at the same moment",
                error_code="change-running",
                remedy="run the same command again when it has ended",
            )

    def renew_until(self, ended: threading.Event, seconds: float) -> None:
        while not ended.wait(seconds):
            # An API server that is away for longer than EXPIRES_SECONDS is away for other commands too.
            with contextlib.suppress(ClusterAccessError):
                found = self._read()
                if text(found, "spec", "holderIdentity") == self.holder:
                    self.cluster.api.replace(self._held(found))

    def release(self, *, delete: bool) -> None:
        with contextlib.suppress(ClusterAccessError):  # an unreleased Lease expires
            found = self._read()
            if text(found, "spec", "holderIdentity") != self.holder:
                return
            if delete:
                self.cluster.api.delete(LEASE, LEASE_NAME, self.cluster.namespace)
            else:
                self.cluster.api.replace({**found, "spec": {"holderIdentity": ""}})

    def _read(self) -> KubernetesObject:
        return self.cluster.api.get(LEASE, LEASE_NAME, self.cluster.namespace) or {}

    def _held(self, lease: KubernetesObject) -> dict[str, Any]:
        metadata = {"name": LEASE_NAME, "namespace": self.cluster.namespace, "labels": {NAME_LABEL: RELEASE}}
        now = self.now().isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": mapping(lease, "metadata") or metadata,
            "spec": {"holderIdentity": self.holder, "leaseDurationSeconds": EXPIRES_SECONDS, "renewTime": now},
        }
