"""The manifests of a test's namespace and Pods, and the label by which a later run finds what is left of them. Pure."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from confcom.addon.preflight import ENFORCE_LABEL, PRIVILEGED
from confcom.kubernetes.names import AESM_DIRECTORY
from confcom.kubernetes.objects import KubernetesObject, labels_of, listing, name_of, text, time_of
from confcom.node_test.selection import Target

TEST_LABEL = "confcom.internal/test"
"""The label of namespaces and Pods of tests. Its value is the time in seconds after which no run uses them any more."""
NAME_PREFIX = "confcom-test-"
USER = 10002
"""The user ID of the sample workload's image; it owns no file on any node."""
GRACE_SECONDS = 60
"""Time beyond a Pod's deadline for its start and its removal."""
_LIMITS = {"cpu": "500m", "memory": "256Mi"}
"""Limits of the sample, which needs 30 MiB and 0.3 s; namespaces with quotas demand limits."""
_REQUESTS = {"cpu": "10m", "memory": "64Mi"}


def lifetime(pods: int, at_once: int, timeout: int) -> int:
    """Return the seconds that a run of `pods` Pods takes at most, if each may take `timeout` seconds."""
    return -(-pods // at_once) * timeout + GRACE_SECONDS


def expired(things: Collection[KubernetesObject]) -> tuple[KubernetesObject, ...]:
    """Return what was older than its label allows when the newest was created, by the API server's clock."""
    created = {name_of(thing): time_of(text(thing, "metadata", "creationTimestamp")) for thing in things}
    newest = max(filter(None, created.values()), default=None)

    def is_expired(thing: KubernetesObject) -> bool:
        time, seconds = created[name_of(thing)], str(labels_of(thing).get(TEST_LABEL, ""))
        old = time and newest and seconds.isdecimal() and newest - time > timedelta(seconds=int(seconds))
        return bool(old) and name_of(thing).startswith(NAME_PREFIX)

    return tuple(filter(is_expired, things))


def namespace_manifest(name: str, seconds: int, chosen: Sequence[Target]) -> KubernetesObject:
    level = "restricted" if all(target.mounts_aesmd for target in chosen) else PRIVILEGED  # for a hostPath
    labels = {TEST_LABEL: str(seconds), ENFORCE_LABEL: level}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod_spec(target: Target, challenge: bytes, *, image: str, timeout: int) -> KubernetesObject:
    """Return the spec of a node's Pod; without the person's `image`, the Pod runs the helper image's sample."""
    names, template = target.node.resources, target.template
    helper = next(iter(listing(template, "containers")), {})
    own = bool(image) and not target.simulated
    sample = ["python", "-m", "confcom.sample_workload", "--print-result"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [target.node.name]}]}
    volume = {"name": "aesmd", "hostPath": {"path": AESM_DIRECTORY, "type": "Directory"}}
    container = {
        "name": "test",
        "image": image if own else text(helper, "image"),
        "imagePullPolicy": text(helper, "imagePullPolicy") or "IfNotPresent",
        "command": [] if own else [*sample, *(["--no-quote"] if not target.simulated else [])],
        "env": [
            {"name": "CONFCOM_CHALLENGE", "value": challenge.hex()},
            {"name": "SGX_AESM_ADDR", "value": "1"},
        ],
        "resources": {"requests": _REQUESTS | {names.epc: "1"}, "limits": _LIMITS | {names.epc: "1"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": not own,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "aesmd", "mountPath": AESM_DIRECTORY, "readOnly": True}] * (not target.mounts_aesmd),
    }
    return {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": timeout + GRACE_SECONDS,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        # The scheduler places the Pod, and says why it cannot; with `nodeName`, there would be no scheduler.
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}},
        "tolerations": listing(template, "tolerations"),
        "imagePullSecrets": listing(template, "imagePullSecrets"),
        "containers": [container],
        "volumes": [volume] * (not target.mounts_aesmd),
    }
