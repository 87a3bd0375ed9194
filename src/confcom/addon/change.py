"""Code that all changes of the add-on share: the Lease, and the steps to enable, update and roll back.

The Lease in the release's namespace allows one change at a time, but a user's own `helm upgrade` ignores the Lease.
Every step may be repeated: to complete an interrupted command, run the same command again.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confcom.addon import drift
from confcom.addon.api import DAEMON_SET, LEASE, ClusterAccessError, place_of
from confcom.addon.chart_objects import workloads_in
from confcom.addon.command import AddOn
from confcom.addon.drift import Comparison, Effect, ObjectChange
from confcom.addon.helm import Helm, Revision
from confcom.addon.login import Cluster
from confcom.addon.preflight import Finding, Outcome, PreflightError
from confcom.addon.readiness import NOT_SHOWN, wait_until_ready
from confcom.errors import ConfcomError, ExitCode
from confcom.kubernetes.names import NAME_LABEL, RELEASE
from confcom.kubernetes.objects import KubernetesObject, mapping, name_of, text, time_of

LEASE_NAME = "confcom-change"
RENEW_SECONDS = 10.0
"""Time between renewals of the Lease. Two renewals in a row may fail before the Lease expires."""
EXPIRES_SECONDS = 30
"""Time after which a Lease expires if it is not renewed, for example because its holder was killed."""
AGAIN = "run the same command again to complete the change; `confcom status` shows the state"
HELM_QUIET_SECONDS = 60.0
"""Age at which an unfinished revision counts as interrupted. No other confcom changes the release, since this
process holds the Lease. A user's own helm that waits for Pods may take longer, which only the user knows."""


class ChangeRefusedError(ConfcomError):
    """The requested change is not possible now, or not allowed; nothing was changed."""

    exit_code = ExitCode.REFUSED


class ChangeInterruptedError(ConfcomError):
    """A change was interrupted by Ctrl-C or SIGTERM."""

    error_code = "interrupted"
    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Changed:
    changed: bool
    revision: int
    """The number of the release's revision; 0 if there is no release."""
    findings: tuple[Finding, ...] = ()
    would_change: tuple[ObjectChange, ...] | None = None
    """The changes that the command would make without --dry-run; None if --dry-run was not given."""

    def to_json(self) -> dict[str, object]:
        would = {} if self.would_change is None else {"would_change": [one.to_json() for one in self.would_change]}
        findings = [one.to_json() for one in self.findings]
        return {"changed": self.changed, "revision": self.revision, "findings": findings, **would}


def holder_name(command: str) -> str:
    """Return this process's name as the Lease's holder, such as `enable by ann on host, process 7`."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or f"user {os.getuid()}"
    return f"{command} by {user} on {socket.gethostname()}, process {os.getpid()}"


@contextlib.contextmanager
def hold_lease(
    add_on: AddOn, command: str, *, dry_run: bool = False, remove: bool = False, renew_seconds: float = RENEW_SECONDS
) -> Iterator[None]:
    """Hold the Lease during the `with` block, unless `dry_run`. `remove` deletes the Lease if the block succeeds."""
    if dry_run:
        yield
        return
    lease = _ChangeLease(add_on.cluster, holder_name(command), add_on.now)
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
            # Ignore failures: while the API server is away, no other command can take the Lease either.
            with contextlib.suppress(ClusterAccessError):
                found = self._read()
                if text(found, "spec", "holderIdentity") == self.holder:
                    self.cluster.api.replace(self._held(found))

    def release(self, *, delete: bool) -> None:
        with contextlib.suppress(ClusterAccessError):  # if this fails, the Lease expires
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


def require_release(add_on: AddOn) -> None:
    history = add_on.helm.history()
    if history and history[-1].status == "uninstalling":
        raise ChangeRefusedError(
            "the add-on is being removed",
            error_code="not-enabled",
            why=history[-1].described,
            remedy="`confcom disable` completes the removal; then `confcom enable` installs it again",
        )
    if not history:
        place = add_on.cluster.namespace
        if workloads_in(add_on.cluster.api.list(DAEMON_SET, place)):
            raise ChangeRefusedError(
                f"helm has no record of the release in the namespace {place}, whose DaemonSets are there",
                error_code="release-missing",
                remedy="`confcom enable` with all values that were set installs it again, and helm records it",
            )
        raise ChangeRefusedError(
            f"the add-on is not enabled in the namespace {place}",
            error_code="not-enabled",
            remedy="run `confcom enable`, or name another namespace with --namespace; `helm list -A` lists releases",
        )


@contextlib.contextmanager
def reporting_interruption(helm: Helm, remedy: str = AGAIN) -> Iterator[None]:
    """Turn a KeyboardInterrupt into an error that describes helm's record of the release."""
    try:
        yield
    except KeyboardInterrupt as error:
        try:
            history = helm.history()
        except ClusterAccessError as unread:
            record = f"helm's record cannot be read: {unread.why}"
        else:
            record = f"by helm's record, {history[-1].described}" if history else "helm has recorded no release"
        raise ChangeInterruptedError("the command was interrupted", why=record, remedy=remedy) from error


def refuse_running_helm(history: Sequence[Revision], now: datetime, *, dry_run: bool = False) -> None:
    """Raise if a user's own helm may be changing the release, or if a dry run finds an unfinished change."""
    last = history[-1] if history else None
    age = (now - last.updated).total_seconds() if last and last.updated else HELM_QUIET_SECONDS
    left = max(HELM_QUIET_SECONDS - age, 0)
    if last and last.is_unfinished and (left or dry_run):
        command = "the same command without --dry-run" if dry_run else "the same command again"
        raise ChangeRefusedError(
            "nothing was changed: helm may be changing the release",
            error_code="change-running",
            why=last.described,
            remedy=f"run {command} when it has ended; if it was killed, in {left:.0f} s",
        )


def report_findings(add_on: AddOn, findings: Sequence[Finding], *, quiet: bool = False) -> None:
    failed = any(one.outcome is Outcome.FAILED for one in findings)
    if failed or not quiet:
        add_on.reporter.findings(findings)
    if failed:
        raise PreflightError(findings)


def compare_release(add_on: AddOn, manifests: Sequence[KubernetesObject]) -> Comparison:
    """Compare manifests with the cluster. Raise if a manifest is invalid, or if the user must delete an object."""
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    found = drift.compare(api, manifests, namespace)
    for manifest in _of(manifests, found, Effect.RECREATED):
        _, name, where = place_of(manifest, namespace)
        metadata = {**mapping(manifest, "metadata"), "name": f"{name}-preflight", "namespace": where}
        api.create({**manifest, "metadata": metadata}, dry_run=True)
    if command := drift.deletion(found.changes, namespace):
        lost = "; ".join(str(one) for one in found.changes if one.effect is Effect.RECREATED)
        raise ChangeRefusedError(
            "nothing was changed: an apply cannot mend an object that has Pods",
            error_code="object-not-mendable",
            why=lost,
            remedy=f"{command}; then run the same command again",
        )
    return found


def mend_objects(add_on: AddOn, manifests: Sequence[KubernetesObject], found: Comparison) -> None:
    api, namespace = add_on.cluster.api, add_on.cluster.namespace
    for manifest in _of(manifests, found, Effect.REPLACED):
        drift.replace(api, manifest, namespace)
    for manifest in _of(manifests, found, Effect.RECREATED):
        kind, name, where = place_of(manifest, namespace)
        api.delete(kind, name, where)
        add_on.reporter.say(f"Deleted the {kind.__name__} {name}, which no apply can mend: helm creates it anew.")


def _of(manifests: Sequence[KubernetesObject], found: Comparison, effect: Effect) -> list[KubernetesObject]:
    names = {(one.kind, one.name) for one in found.changes if one.effect is effect}
    return [one for one in manifests if (text(one, "kind"), name_of(one)) in names]


def wait_for_daemons(add_on: AddOn, *, wait: bool, timeout: float) -> None:
    if wait:
        status = wait_until_ready(add_on, timeout=timeout)
        if any(one.code in NOT_SHOWN for one in status.problems):
            add_on.reporter.say("The nodes show their EPC within 10 s: `confcom status --wait` waits for it.")
