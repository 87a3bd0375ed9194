"""Write the table of the chart's values into docs/reference/chart.md; --check fails if what is there differs.

The purpose of a value comes from values.schema.json, its default from values.yaml. Each value of values.yaml has a
line, and groups of values have none. A second table has the members of other objects and of list elements, one line for
each shape.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from generated_part import ROOT, table, write_or_check

CHART = ROOT / "charts" / "confcom"


def main() -> int:
    root = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    leaves = list(properties(root, root, values))
    rows = ((f"`{one.name}`", shown(one.default), one.schema["description"]) for one in leaves)
    shapes: dict[str, list[str]] = {}
    for one in leaves:
        element = resolved(one.schema.get("items", one.schema), root)
        if "properties" in element:
            shapes.setdefault(described(element, root), []).append(f"`{one.name}`")
    parts = {
        "values": table(["value", "default", ""], rows),
        "members": table(["of", "members"], ((", ".join(names), text) for text, names in shapes.items())),
    }
    return write_or_check({"chart.md": parts})


class Property(NamedTuple):
    name: str
    schema: dict[str, Any]
    default: object


def properties(schema: dict[str, Any], root: dict[str, Any], values: object, name: str = "") -> Iterator[Property]:
    """All values below a schema, in its order; an object is a group of values if it must have some of them."""
    defaults = values if isinstance(values, dict) else {}
    for key, written in schema["properties"].items():
        one, path = resolved(written, root), f"{name}.{key}".lstrip(".")
        if "properties" in one and "required" in one:
            yield from properties(one, root, defaults.get(key), path)
        else:
            yield Property(path, one, defaults.get(key))


def described(schema: dict[str, Any], root: dict[str, Any]) -> str:
    parts = []
    for name, written in schema["properties"].items():
        one = resolved(written, root)
        inner = resolved(one.get("items", one), root)
        more = f" ({described(inner, root)})" if "properties" in inner else ""
        parts.append(f"`{name}`: {one['description']}{more}")
    return "; ".join(parts)


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    return {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema


def shown(default: object) -> str:
    """A default as people write it; empty if there is no default."""
    if default in (None, "", [], {}):
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    sys.exit(main())
