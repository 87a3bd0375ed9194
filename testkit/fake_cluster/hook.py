"""The Job that helm waits for before it changes anything else.

Its Pod starts, or does not, once somebody has looked at it.
"""

import copy

from testkit.fake_cluster import objects as make
from testkit.fake_cluster.objects import SYSTEM

CANNOT_START = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"}
"""What keeps the Job from starting as well: it has the quote helper's image, and runs another program of it."""
TOO_LATE = ("DeadlineExceeded", "Job was active longer than specified deadline")
CANCELLED = "context canceled"
"""What helm says when it gets a SIGINT while it waits."""
SECRET = {"kind": "Secret", "metadata": {"name": "confcom-simulated-platform", "namespace": SYSTEM}}
RECORD = {
    "kind": "ConfigMap",
    "metadata": {
        "name": "confcom-simulated-root",
        "namespace": SYSTEM,
        "creationTimestamp": "2026-11-24T12:30:15Z",
        "ownerReferences": [{"kind": "Secret", "name": SECRET["metadata"]["name"]}],
    },
    "data": {"sha256": "ab" * 32},
}
"""What the Job makes and publishes."""


class HookRun:
    """Helm's hooks in one cluster."""

    def __init__(self, cluster):
        self._cluster = cluster
        self._job = self._pod = None
        self._looked = self._over = self._interrupted = False

    def play(self, hooks):
        """Make them and wait for the Job; if helm cannot go on, why."""
        if not hooks:
            return ""
        cluster = self._cluster
        cluster.remove({(one["kind"], one["metadata"]["name"]) for one in hooks})  # of a run that failed
        made = copy.deepcopy(hooks)
        (self._job,) = (one for one in made if one["kind"] == "Job")
        name, template = self._job["metadata"]["name"], self._job["spec"]["template"]
        image = template["spec"]["containers"][0]["image"]
        broken = cluster.broken_images.get(image)
        self._pod = make.pod(
            f"{name}-6ftrb",
            namespace=SYSTEM,
            owner=("Job", name),
            labels=template["metadata"]["labels"],
            image=image,
            status=copy.deepcopy(broken) if cannot_start(broken) else make.waiting("ContainerCreating"),
        )
        cluster.objects += [*made, self._pod]
        self._looked = self._over = False
        try:
            while not self._over:
                cluster.watch.meanwhile()
        except KeyboardInterrupt:
            if not cluster.watch.stoppable:
                raise
            self._interrupted = True  # it gets a SIGINT, and leaves what it has made
            return CANCELLED
        failed = "status" in self._job
        gone = [one for one in made if not failed or one is not self._job]  # a failed one stays
        cluster.objects = [one for one in cluster.objects if one is not self._pod and one not in gone]
        if failed:
            return f"resource Job/{SYSTEM}/{name} not ready. status: Failed, message: Job Failed. failed: 1/1"
        if not cluster.find("Secret", SECRET["metadata"]["name"], SYSTEM):
            cluster.objects.append(copy.deepcopy(SECRET))
        wanted = copy.deepcopy(RECORD | {"data": {"sha256": cluster.new_root}})
        there = cluster.find("ConfigMap", RECORD["metadata"]["name"], SYSTEM)
        if [one["data"] for one in there] != [wanted["data"]]:
            cluster.remove({("ConfigMap", RECORD["metadata"]["name"])})
            cluster.objects.append(wanted)
        return ""

    def interrupted(self):
        """Whether helm was ended by a SIGINT; told once."""
        told, self._interrupted = self._interrupted, False
        return told

    def look(self):
        """Somebody lists Pods."""
        self._looked = True

    def tick(self):
        """A moment later the Job is over, unless its Pod does not start; then it is when somebody has ended it."""
        if self._job is None or not self._looked:
            return
        if cannot_start(self._pod["status"]):
            if "activeDeadlineSeconds" not in self._job["spec"]:
                return
            self._job["status"] = make.failed_hook("", *TOO_LATE)["status"]
        self._over = True

    def close(self):
        """Helm has done what comes after them."""
        self._job = None


def cannot_start(status):
    """Whether no container of a Pod has started."""
    containers = (status or {}).get("containerStatuses", [])
    return any(one["state"].get("waiting", {}).get("reason") in CANNOT_START for one in containers)
