"""Why the sidecar with Intel's aesmd does not run, by its container's status. Pure.

Its log is a foreign program's. Only lines that are known are understood, and none of them is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from confcom.addon.daemons.daemon_events import joined
from confcom.addon.daemons.daemon_log import Reason
from confcom.addon.daemons.oom_kill import memory_kill
from confcom.addon.model.chart_objects import AESMD
from confcom.kubernetes.objects import (
    KubernetesObject,
    listing,
    mapping,
    name_of,
    namespace_of,
    number,
    text,
)

_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"})
_STARTING_REASONS = frozenset({"", "ContainerCreating", "PodInitializing", "CrashLoopBackOff"})
"""Waiting reasons that do not explain why a container was not started."""


@dataclass(frozen=True, slots=True)
class _KnownLine:
    """A line of Intel's software that tells the cause."""

    part: str
    meaning: str
    remedy: str


_DEVICE = "check that the container requests quote helper EPC, and the device's mode on the node"
_GROUP = (
    "check that the container requests the provision device, and set quoteHelper.sgxPrvGroup to the gid of "
    "/dev/sgx_provision on the node"
)
_NO_ENCLAVE, _NO_PROVISION = "it cannot open /dev/sgx_enclave", "it cannot open /dev/sgx_provision"
_EPC_FULL = "the node's EPC is full"
_EPC = "find containers that use more EPC than they requested: nothing limits them"
_KNOWN_LINES: Sequence[_KnownLine] = (
    _KnownLine(
        "start-aesmd: there is no quote provider library",
        "its image has no quote provider library (libdcap_quoteprov.so.1)",
        "build it as docs/how-to/build-images.md says",
    ),
    _KnownLine("Failed to open Intel SGX device", _NO_ENCLAVE, _DEVICE),
    _KnownLine("start-aesmd: /dev/sgx_enclave is not there", _NO_ENCLAVE, _DEVICE),
    _KnownLine("may not open /dev/sgx_enclave", _NO_ENCLAVE, _DEVICE),
    _KnownLine("Enclave not authorized to run", _NO_PROVISION, _GROUP),
    _KnownLine("start-aesmd: /dev/sgx_provision is not there", _NO_PROVISION, _GROUP),
    _KnownLine("may not open /dev/sgx_provision", _NO_PROVISION, _GROUP),
    _KnownLine("Failed to load QE3: 0x0003", _EPC_FULL, _EPC),
    _KnownLine("Failed to load QE3: 0x2005", _EPC_FULL, _EPC),
    _KnownLine(
        "Fail to start service.",
        "it cannot load its quoting enclave",
        "check /dev/sgx_enclave, /dev/sgx_provision with its group (quoteHelper.sgxPrvGroup), and EPC "
        "(quoteHelper.epcMiB)",
    ),
)
"""Of Intel's software, and of images/aesmd/start-aesmd. The most telling first: the last one follows each failure to
load the quoting enclave."""


def sidecar_failure(pod: KubernetesObject) -> Reason:
    """Return why the container `aesmd` of a pod does not run, or was just killed for memory; empty otherwise."""
    statuses = listing(pod, "status", "initContainerStatuses")
    found = next((one for one in statuses if text(one, "name") == AESMD), None)
    if found is None:
        return Reason()
    if killed := memory_kill(pod, found):
        return Reason(f"its container {AESMD} was ended: {killed}", code="aesmd-out-of-memory")
    waiting = mapping(found, "state", "waiting")
    why = joined(text(waiting, "reason"), text(waiting, "message"))
    if text(waiting, "reason") in _IMAGE_REASONS:
        return Reason(
            f"the image of its container {AESMD} cannot be pulled: check quoteHelper.aesmd.image and image.pullSecrets "
            f"({why})",
            code="aesmd-image-not-pulled",
        )
    if text(waiting, "reason") not in _STARTING_REASONS:
        return Reason(f"its container {AESMD} cannot be made: {why}", code="aesmd-not-created")
    ended = mapping(found, "state", "terminated") or mapping(found, "lastState", "terminated")
    if ended and not mapping(found, "state", "running"):
        return _ended(pod, found, ended)
    return Reason()


def _ended(pod: KubernetesObject, container: KubernetesObject, ended: KubernetesObject) -> Reason:
    ending = f"exit code {number(ended, 'exitCode')}, {number(container, 'restartCount')} restarts"
    log = text(ended, "message")  # the end of its log: the chart sets FallbackToLogsOnError
    line = next((one for one in _KNOWN_LINES if one.part in log), None)
    if line is not None:
        return Reason(
            f"its container {AESMD} does not start ({ending}), because {line.meaning}: {line.remedy}",
            code="aesmd-does-not-start",
        )
    command = f"kubectl logs -n {namespace_of(pod)} {name_of(pod)} -c {AESMD} --previous"
    return Reason(f"its container {AESMD} ended ({ending}): see why with `{command}`", code="aesmd-crashes")
