"""The objects that the small API server holds, by kind and name."""

from __future__ import annotations

from collections.abc import Callable

from confcom.errors import ConfcomError
from confcom.playground.errors import AlreadyExistsError, NotFoundError
from confcom.playground.manifest import JobManifest, Manifest, parse_manifests
from confcom.playground.objects import Job, Pod
from confcom.playground.views import ApplyResult

MAX_OBJECTS = 1000
"""Jobs and pods together. A kubelet takes 110 pods; ended ones stay here until they are deleted."""

SUFFIX_CHARACTERS = 5
"""Random characters of a Job's pods' names (apiserver/pkg/storage/names)."""

_MAX_GENERATED_BASE = 63 - SUFFIX_CHARACTERS
"""What is kept of the Job's name before them (the same)."""

_JOB_NAMES = {"job", "jobs", "job.batch", "jobs.batch"}
_POD_NAMES = {"pod", "pods", "po"}


class ObjectStore:
    """Jobs and pods.

    Args:
        suffix: a random name suffix of SUFFIX_CHARACTERS.
    """

    def __init__(self, suffix: Callable[[], str]) -> None:
        self.pods: dict[str, Pod] = {}
        self.jobs: dict[str, Job] = {}
        self._suffix = suffix

    def create(self, text: str) -> ApplyResult:
        """Create the objects of a manifest, all or none; a Job's first pod with it.

        Raises:
            ManifestError: it is refused.
            AlreadyExistsError: an object of that name is there, or twice in the manifest.
            ConfcomError: there are too many objects.
        """
        manifests, warnings = parse_manifests(text)
        if len(self.pods) + len(self.jobs) + len(manifests) > MAX_OBJECTS:
            raise ConfcomError(
                f"this node holds at most {MAX_OBJECTS} Jobs and Pods", remedy="delete some that have ended"
            )
        taken = {("job", name) for name in self.jobs} | {("pod", name) for name in self.pods}
        for manifest in manifests:
            kind = "job" if isinstance(manifest, JobManifest) else "pod"
            if (kind, manifest.name) in taken:
                raise AlreadyExistsError(
                    f'{_plural(kind)} "{manifest.name}" already exists',
                    remedy=f"delete it first: confcom playground delete {kind} {manifest.name}",
                )
            taken.add((kind, manifest.name))
        return ApplyResult(tuple(self._add(manifest) for manifest in manifests), warnings)

    def find(self, kind: str, name: str) -> Job | Pod:
        """An object by kind and name, the kind as kubectl takes it.

        Raises:
            NotFoundError: there is none.
        """
        if kind.lower() in _POD_NAMES:
            return self.pod(name)
        if kind.lower() not in _JOB_NAMES:
            raise NotFoundError(
                f'the server doesn\'t have a resource type "{kind}"', remedy="the playground has job and pod"
            )
        if (job := self.jobs.get(name)) is None:
            raise _not_found("job", name)
        return job

    def pod(self, name: str) -> Pod:
        """A pod.

        Raises:
            NotFoundError: there is none of that name.
        """
        if (pod := self.pods.get(name)) is None:
            raise _not_found("pod", name)
        return pod

    def pods_of(self, job: Job) -> tuple[Pod, ...]:
        """A Job's pods, oldest first."""
        return tuple(pod for pod in self.pods.values() if pod.owner is job)

    def add_pod_of(self, job: Job) -> None:
        """A Job's next pod."""
        base = f"{job.name}-"[:_MAX_GENERATED_BASE]
        while (name := base + self._suffix()) in self.pods:
            pass
        self.pods[name] = Pod(name, job.manifest.spec, owner=job)

    def _add(self, manifest: Manifest) -> str:
        if isinstance(manifest, JobManifest):
            job = self.jobs[manifest.name] = Job(manifest)
            self.add_pod_of(job)
            return f"job.batch/{manifest.name}"
        self.pods[manifest.name] = Pod(manifest.name, manifest.spec)
        return f"pod/{manifest.name}"


def _plural(kind: str) -> str:
    return "jobs.batch" if kind == "job" else "pods"


def _not_found(kind: str, name: str) -> NotFoundError:
    return NotFoundError(f'{_plural(kind)} "{name}" not found', remedy="see what there is: confcom playground get")
