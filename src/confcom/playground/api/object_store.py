"""The API server's objects by kind and name."""

from __future__ import annotations

from collections.abc import Callable

from confcom.errors import ConfcomError
from confcom.playground.api.errors import AlreadyExistsError, NotFoundError
from confcom.playground.api.objects import Job, Pod
from confcom.playground.api.views import ApplyResult
from confcom.playground.manifests import v1
from confcom.playground.manifests.manifest_files import parse_manifests

MAX_OBJECTS = 1000
"""Limit for Jobs and pods together. A kubelet runs 110 pods; here ended pods count until they are deleted."""

SUFFIX_CHARACTERS = 5
"""Random characters at the end of the names of a Job's pods (apiserver/pkg/storage/names)."""

_MAX_GENERATED_BASE = 63 - SUFFIX_CHARACTERS
"""Characters of the Job's name that are kept before the suffix (the same source)."""

_JOB_NAMES = {"job", "jobs", "job.batch", "jobs.batch"}
_POD_NAMES = {"pod", "pods", "po"}


class ObjectStore:
    """The Jobs and pods."""

    def __init__(self, suffix: Callable[[], str]) -> None:
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, Job] = {}
        self._suffix = suffix

    def create(self, text: str) -> ApplyResult:
        """Create the objects of a manifest, all or none, and the first pod of each Job.

        Raises:
            ManifestError: the manifest is refused.
            AlreadyExistsError: an object of that name exists, or the manifest has it twice.
            ConfcomError: there are too many objects.
        """
        manifests, warnings = parse_manifests(text)
        if len(self.pods) + len(self.jobs) + len(manifests) > MAX_OBJECTS:
            raise ConfcomError(
                f"this node holds at most {MAX_OBJECTS} Jobs and Pods",
                error_code="too-many-objects",
                remedy="delete some that have ended",
            )
        taken = {("job", name) for name in self.jobs} | {("pod", name) for name in self.pods}
        for manifest in manifests:
            kind = "job" if isinstance(manifest, v1.Job) else "pod"
            if (kind, manifest.name) in taken:
                raise AlreadyExistsError(
                    f'{_plural(kind)} "{manifest.name}" already exists',
                    remedy=f"delete it first: confcom playground delete {kind} {manifest.name}",
                )
            taken.add((kind, manifest.name))
        return ApplyResult(tuple(self._add(manifest) for manifest in manifests), warnings)

    def find(self, kind: str, name: str) -> Job | Pod:
        """Return an object by kind and name; the kind may have any form that kubectl accepts."""
        if kind.lower() in _POD_NAMES:
            return self.pod(name)
        if kind.lower() not in _JOB_NAMES:
            raise NotFoundError(
                f'the server doesn\'t have a resource type "{kind}"',
                error_code="kind-unknown",
                remedy="the playground has job and pod",
            )
        if (job := self.jobs.get(name)) is None:
            raise _not_found("job", name)
        return job

    def pod(self, name: str) -> Pod:
        """Return a pod by name."""
        if (pod := self.pods.get(name)) is None:
            raise _not_found("pod", name)
        return pod

    def pods_of(self, job: Job) -> tuple[Pod, ...]:
        """Return a Job's pods, oldest first."""
        return tuple(pod for pod in self.pods.values() if pod.owner is job)

    def add_pod_of(self, job: Job) -> None:
        """Create a Job's next pod."""
        base = f"{job.name}-"[:_MAX_GENERATED_BASE]
        while (name := base + self._suffix()) in self.pods:
            pass
        self.pods[name] = Pod(name, job.manifest.spec.template.spec, owner=job)

    def _add(self, manifest: v1.Job | v1.Pod) -> str:
        if isinstance(manifest, v1.Job):
            job = self.jobs[manifest.name] = Job(manifest)
            self.add_pod_of(job)
            return f"job.batch/{manifest.name}"
        self.pods[manifest.name] = Pod(manifest.name, manifest.spec)
        return f"pod/{manifest.name}"


def _plural(kind: str) -> str:
    return "jobs.batch" if kind == "job" else "pods"


def _not_found(kind: str, name: str) -> NotFoundError:
    return NotFoundError(f'{_plural(kind)} "{name}" not found', remedy="see what there is: confcom playground get")
