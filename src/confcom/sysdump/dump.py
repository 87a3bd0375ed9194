"""Reads a cluster's add-on with the user's permissions, and writes the archive: whole, or not at all."""

import heapq
import platform
from collections.abc import Sequence
from concurrent import futures
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import confcom
from confcom.addon import api as kinds
from confcom.addon.api import AT_ONCE
from confcom.addon.command import AddOn
from confcom.addon.daemon_pods import event_time
from confcom.addon.login import kubectl_version
from confcom.addon.owned_objects import KINDS, owned_objects
from confcom.addon.problems import OptionalReads
from confcom.addon.snapshot import read_cluster
from confcom.addon.status import add_on_status
from confcom.atomic_file import atomic_file
from confcom.errors import writing
from confcom.kubernetes.objects import name_of
from confcom.sysdump.archive import MAX_FILE, NOT_READ, Archive
from confcom.sysdump.redaction import Redaction
from confcom.sysdump.selection import MAX_PODS, Source, chosen_pods, sources

MAX_EVENTS = 2_000
"""Maximum number of events; a cluster keeps events for an hour, and a failing Pod causes some hundred in an hour."""


@dataclass(frozen=True, slots=True)
class SystemDump:
    path: Path | None
    """The written file; None after a dry run."""
    files: tuple[str, ...]
    not_read: tuple[str, ...]
    size: int = 0
    """Bytes of the written file."""

    def to_json(self) -> dict[str, object]:
        shown = {"file": str(self.path) if self.path else None, "bytes": self.size}
        return {**shown, "files": list(self.files), "not_read": list(self.not_read)}


def default_name(now: datetime) -> Path:
    return Path(f"confcom-sysdump-{now:%Y%m%dT%H%M%SZ}.tar.gz")


def write_dump(add_on: AddOn, path: Path) -> SystemDump:
    """Read everything that the user may read, and write the archive, which only this user can read."""
    with writing(f"{path} cannot be written", error_code="sysdump-not-written"):
        if path.exists() and not path.is_file():
            raise OSError(0, "it is no regular file")
        with atomic_file(path) as file:
            archive, from_pods, redaction = _read_cluster(add_on)
            _read_pods(add_on, from_pods, archive, redaction)
            packed = archive.packed(path.name.partition(".")[0] or "confcom-sysdump", add_on.now())
            file.write(packed)
    return SystemDump(path, (*archive.files, NOT_READ), tuple(archive.not_read), len(packed))


def list_dump(add_on: AddOn) -> SystemDump:
    """Return the names of the files that `write_dump` would write; no log and no page is read."""
    archive, from_pods, _ = _read_cluster(add_on)
    return SystemDump(None, (*archive.files, *(one.name for one in from_pods), NOT_READ), tuple(archive.not_read))


def _read_cluster(add_on: AddOn) -> tuple[Archive, Sequence[Source], Redaction]:
    """Return an archive with all files that are not read from Pods, what to read from Pods, and what to hide."""
    cluster, helm, reads, archive = add_on.cluster, add_on.helm, OptionalReads(), Archive()
    add_on.reporter.say("Reading the add-on's state ...")
    events = partial(cluster.api.list, kinds.EVENT, cluster.namespace)
    found: dict[str, object] = {
        "versions.json": {
            "confcom": confcom.__version__,
            "python": platform.python_version(),
            "kubectl": reads.read("kubectl's version", kubectl_version),
            "helm": reads.read("helm's version", helm.version),
            "api_server": reads.read("the API server's version", cluster.api.server_version),
        },
        "values.json": reads.read("values.json", helm.values),
        "status.json": reads.read("status.json", lambda: add_on_status(read_cluster(helm, add_on.now)).to_json()),
        "events.json": reads.read("events.json", lambda: heapq.nlargest(MAX_EVENTS, events(), key=event_time)),
    }
    for kind in KINDS:
        for one in reads.read(f"objects/{kind[1]}", partial(tuple, owned_objects(cluster, [kind]))) or ():
            found[f"objects/{kind[1]}-{name_of(one)}.json"] = one
    pods = reads.read("pods", lambda: chosen_pods(cluster.api.list(kinds.POD, cluster.namespace)))
    chosen, others = pods or ((), 0)
    found |= {f"pods/{name_of(pod)}/pod.json": pod for pod in chosen}
    redaction = Redaction.of(found.values())
    for name, thing in found.items():
        if thing is not None:
            archive.add(name, redaction.json(thing))
    for failure in reads.failures:
        archive.leave_out(redaction.text(str(failure)))
    if others:
        archive.leave_out(f"pods: {others} more; of each component {MAX_PODS} are read, those with problems first")
    return archive, tuple(source for pod in chosen for source in sources(pod)), redaction


def _read_pods(add_on: AddOn, from_pods: Sequence[Source], archive: Archive, redaction: Redaction) -> None:
    api, place = add_on.cluster.api, add_on.cluster.namespace
    table = add_on.reporter.table("Reading the daemons' logs and pages")

    def read(one: Source) -> tuple[str, bool]:
        if one.page:
            return api.probe_page(one.pod, place, one.page), False
        # Whole lines: half of a line may be the end of a secret that is recognised by its start.
        return api.log_end(one.pod, place, one.container, previous=one.previous, most=MAX_FILE)

    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for start in range(0, len(from_pods), AT_ONCE):  # few at once, so that few are in memory beside the archive
            if archive.free < MAX_FILE:
                archive.leave_out(f"{len(from_pods) - start} files of Pods, from {from_pods[start].name} on: no space")
                return
            reads, some = OptionalReads(), from_pods[start : start + AT_ONCE]
            for one, done in [(one, pool.submit(read, one)) for one in some]:
                if found := reads.read(one.name, done.result):
                    text, cut = found
                    archive.add(one.name, redaction.text(text, identifiers=one.page == "platform"))
                    if cut:
                        archive.leave_out(f"{one.name}: all but the last {MAX_FILE >> 20} MiB")
            for failure in reads.failures:
                archive.leave_out(redaction.text(str(failure)))
            table.show((), note=f"{start + len(some)} of {len(from_pods)} files")
