"""The kind of SGX that a node has, by its labels. Pure."""

from __future__ import annotations

from enum import StrEnum

from confcom.addon.model.azure_sizes import find_size
from confcom.kubernetes.objects import KubernetesObject, labels_of

SIMULATED_LABEL = "confcom.internal/simulated-sgx"
"""The label by which a user marks a node for simulation."""
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
"""The label that Node Feature Discovery puts on a node whose CPU and firmware have SGX enabled."""
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"


class SgxKind(StrEnum):
    """The kinds of SGX."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"
    NONE = "none"


def sgx_kind(node: KubernetesObject) -> SgxKind:
    """Return the kind by the node's labels.

    Hardware takes precedence: a node with both labels has an SGX CPU, and the plugin refuses to simulate there.
    """
    labels = labels_of(node)
    if labels.get(NFD_LABEL) == "true" or find_size(labels.get(_INSTANCE_TYPE, "")):
        return SgxKind.HARDWARE
    return SgxKind.SIMULATED if labels.get(SIMULATED_LABEL) == "true" else SgxKind.NONE
