"""Write docs/how-to/scale-from-zero.md's sizes, overlay and tags; --check fails if what is there differs."""

import sys
from collections.abc import Iterator

from generated_part import table, write_or_check

from confcom.device_plugin.resources import DEFAULT_HELPER_MIB, NODE_USERS
from confcom.kubernetes.epc_accounting import HELPERS
from confcom.kubernetes.names import REAL

SET_ASIDE = HELPERS * DEFAULT_HELPER_MIB
DC_V3 = {1: 4, 2: 8, 4: 16, 8: 32, 16: 64, 24: 128, 32: 192, 48: 256}
"""GiB by the number of cores, with a local disk (DCdsv3) or without (page "DCsv3 and DCdsv3-series")."""
SIZES = {f"Standard_DC{cores}{s}_v3": epc * 1024 for s in ("s", "ds") for cores, epc in DC_V3.items()}
"""Names of the sizes, and their EPC in MiB."""
TAG_PREFIX = "k8s.io_cluster-autoscaler_node-template_resources_"
"""Prefix of the tags of a scale set that tell the cluster autoscaler which resources an empty pool offers."""


def main() -> int:
    """Write the page's parts, or compare them."""
    parts = {"sizes": sizes_table(), "overlay": example(), "tags": tags_table()}
    return write_or_check({"scale-from-zero.md": parts}, "how-to")


def sizes_by_epc() -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each amount of EPC in MiB, smallest first, and the names of the sizes that have it."""
    for epc in sorted(set(SIZES.values())):
        yield epc, tuple(name for name, size in SIZES.items() if size == epc)


def scale_set_tag(resource: str) -> str | None:
    """The tag's name for a resource; None if the cluster autoscaler cannot read the resource's name from a tag.

    A tag's name contains no slash, so the autoscaler reads each `_` as one. In names of resources it reads `~2` as a
    slash too, and not as `_` as in labels (cluster-autoscaler/cloudprovider/azure/azure_template.go).
    """
    return None if "_" in resource else TAG_PREFIX + resource.replace("/", "_")


def sizes_table() -> str:
    """A line for each amount of EPC."""
    rows = [
        (", ".join(f"`{name}`" for name in names), f"{epc:,}", f"{epc - SET_ASIDE:,}") for epc, names in sizes_by_epc()
    ]
    return table(["sizes", "EPC, MiB", "offered beside quote helpers, MiB"], rows)


def example() -> str:
    """The NodeOverlay for the smallest amount of EPC."""
    return "```yaml\n" + "".join(overlay(*next(sizes_by_epc()))) + "```\n"


def overlay(epc: int, names: tuple[str, ...]) -> Iterator[str]:
    """The lines of one NodeOverlay, with all of the plugin's resources: the quote helper's Pod requests some."""
    yield "apiVersion: karpenter.sh/v1alpha1\nkind: NodeOverlay\n"
    yield f"metadata: {{name: confcom-epc-{epc}-mib}}\nspec:\n  requirements:\n"
    yield f"  - {{key: node.kubernetes.io/instance-type, operator: In, values: [{', '.join(names)}]}}\n"
    yield "  capacity:\n"
    for name, count in counts(epc).items():
        yield f'    {name}: "{count}"\n'


def counts(epc: int) -> dict[str, int]:
    """The resources that a node with this EPC offers, if it has quote helpers."""
    return {
        REAL.epc: epc - SET_ASIDE,
        REAL.helper: SET_ASIDE,
        REAL.enclave: NODE_USERS,
        REAL.provision: NODE_USERS,
    }


def tags_table() -> str:
    """A line for each resource: its tag, or that there is none."""
    rows = []
    for name in REAL:
        tag = scale_set_tag(name)
        rows.append((f"`{name}`", f"`{tag}`" if tag else "none: a `_` of the name would be read as a slash"))
    return table(["resource", "tag of the scale set"], rows)


if __name__ == "__main__":
    sys.exit(main())
