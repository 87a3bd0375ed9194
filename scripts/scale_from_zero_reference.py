"""Write docs/how-to/scale-from-zero.md's sizes, overlays and tags; --check fails if what is there differs."""

import sys
from collections.abc import Iterator

from generated_part import table, write_or_check

from confcom.addon.chart_objects import REAL
from confcom.device_plugin.resources import DEFAULT_HELPER_MIB, NODE_USERS
from confcom.kubernetes.azure_sizes import scale_set_tag, sizes_by_epc
from confcom.kubernetes.epc_accounting import HELPERS

SET_ASIDE = HELPERS * DEFAULT_HELPER_MIB


def main() -> int:
    """Write the page's parts, or compare them."""
    parts = {"sizes": sizes_table(), "overlays": overlays(), "tags": tags_table()}
    return write_or_check({"scale-from-zero.md": parts}, "how-to")


def sizes_table() -> str:
    """A line for each amount of EPC."""
    rows = [
        (", ".join(f"`{name}`" for name in names), f"{epc:,}", f"{epc - SET_ASIDE:,}") for epc, names in sizes_by_epc()
    ]
    return table(["sizes", "EPC, MiB", "offered beside quote helpers, MiB"], rows)


def overlays() -> str:
    """A NodeOverlay for each amount of EPC, in one file."""
    documents = ("".join(overlay(epc, names)) for epc, names in sizes_by_epc())
    return "```yaml\n" + "---\n".join(documents) + "```\n"


def overlay(epc: int, names: tuple[str, ...]) -> Iterator[str]:
    """The lines of one NodeOverlay: all that the plugin offers, since the quote helper's Pod requests of it too."""
    yield "apiVersion: karpenter.sh/v1alpha1\nkind: NodeOverlay\n"
    yield f"metadata: {{name: confcom-epc-{epc}-mib}}\nspec:\n  requirements:\n"
    yield f"  - {{key: node.kubernetes.io/instance-type, operator: In, values: [{', '.join(names)}]}}\n"
    yield "  capacity:\n"
    for name, count in counts(epc).items():
        yield f'    {name}: "{count}"\n'


def counts(epc: int) -> dict[str, int]:
    """What a node with this EPC offers, with quote helpers."""
    return {
        REAL.epc: epc - SET_ASIDE,
        REAL.helper: SET_ASIDE,
        REAL.enclave: NODE_USERS,
        REAL.provision: NODE_USERS,
    }


def tags_table() -> str:
    """A line for each resource: its tag, or that there is none."""
    rows = []
    for name in REAL.names:
        tag = scale_set_tag(name)
        rows.append((f"`{name}`", f"`{tag}`" if tag else "none: a `_` of the name would be read as a slash"))
    return table(["resource", "tag of the scale set"], rows)


if __name__ == "__main__":
    sys.exit(main())
