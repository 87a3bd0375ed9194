"""Azure's virtual machine sizes with SGX, and how autoscalers are told what a node of them will offer. Pure.

Sizes and EPC: Microsoft's pages "DCsv2-series" and "DCsv3 and DCdsv3-series" (Azure virtual machines).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

GIB = 1_024
"""MiB in a GiB."""
TAG_PREFIX = "k8s.io_cluster-autoscaler_node-template_resources_"
"""Prefix of the tags of a scale set that tell the cluster autoscaler which resources an empty pool offers."""


@dataclass(frozen=True, slots=True)
class VmSize:
    """A size of a virtual machine."""

    name: str
    """As in the node's label node.kubernetes.io/instance-type."""
    epc_mib: int


_DCS_V2 = {"DC1s": 28, "DC2s": 56, "DC4s": 112, "DC8": 168}
"""MiB; the largest has no `s` in its name."""
_DC_V3 = {1: 4, 2: 8, 4: 16, 8: 32, 16: 64, 24: 128, 32: 192, 48: 256}
"""GiB by the number of cores, with a local disk (DCdsv3) or without (DCsv3)."""

SIZES = (
    *(VmSize(f"Standard_{name}_v2", epc) for name, epc in _DCS_V2.items()),
    *(VmSize(f"Standard_DC{cores}{s}_v3", epc * GIB) for s in ("s", "ds") for cores, epc in _DC_V3.items()),
)
_BY_NAME = {size.name.lower(): size for size in SIZES}


def find_size(name: str) -> VmSize | None:
    """Return the size of this name, whose case does not matter; None if it has no SGX."""
    return _BY_NAME.get(name.lower())


def sizes_by_epc() -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield each amount of EPC in MiB, smallest first, and the names of the sizes that have it."""
    for epc in sorted({size.epc_mib for size in SIZES}):
        yield epc, tuple(size.name for size in SIZES if size.epc_mib == epc)


def scale_set_tag(resource: str) -> str | None:
    """Return the tag's name for a resource; None if the cluster autoscaler cannot read the resource's name from a tag.

    A tag's name contains no slash, so the autoscaler reads each `_` as one. In names of resources it reads `~2` as a
    slash too, and not as `_` as in labels (cluster-autoscaler/cloudprovider/azure/azure_template.go).
    """
    return None if "_" in resource else TAG_PREFIX + resource.replace("/", "_")
