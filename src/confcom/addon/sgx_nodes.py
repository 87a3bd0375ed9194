"""What kind of SGX a node has, by what the cluster knows of it. Pure."""

from __future__ import annotations

import re
from enum import StrEnum

from confcom.addon.objects import KubernetesObject, labels_of

SIMULATED_LABEL = "confcom.internal/simulated-sgx"
"""Put on a node by somebody who wants it to simulate."""
NFD_LABEL = "feature.node.kubernetes.io/cpu-security.sgx.enabled"
"""Put by Node Feature Discovery on a node whose CPU and firmware have SGX enabled."""
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_AZURE_SGX_SIZES = re.compile(r"Standard_DC([0-9]+d?s_v[23]|8_v2)", re.IGNORECASE)
"""Azure's virtual machine sizes with SGX: DCsv2, whose largest has no `s` in its name, DCsv3 and DCdsv3."""


class SgxKind(StrEnum):
    """What a node's labels say of SGX."""

    HARDWARE = "hardware"
    SIMULATED = "simulated"
    NONE = "none"


def sgx_kind(node: KubernetesObject) -> SgxKind:
    """Hardware comes first: a node that is labelled both ways has an SGX CPU, and refuses to simulate."""
    labels = labels_of(node)
    if labels.get(NFD_LABEL) == "true" or _AZURE_SGX_SIZES.fullmatch(labels.get(_INSTANCE_TYPE, "")):
        return SgxKind.HARDWARE
    return SgxKind.SIMULATED if labels.get(SIMULATED_LABEL) == "true" else SgxKind.NONE
