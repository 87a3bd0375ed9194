"""Write the table of the chart's values into docs/reference/chart.md; --check fails if what is there differs.

What a value is for comes from values.schema.json, its default from values.yaml. A schema with a description is a line.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import yaml
from generated_part import ROOT, table, write_or_check

CHART = ROOT / "charts" / "confcom"


def main() -> int:
    """Write the table, or compare it."""
    return write_or_check({"chart.md": {"values": values_table()}})


def values_table() -> str:
    """A line for each value, in the schema's order."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    lines = ((f"`{name}`", default, text) for name, default, text in rows(schema, schema, values))
    return table(["value", "default", ""], lines)


def rows(
    schema: dict[str, Any], root: dict[str, Any], values: object, name: str = ""
) -> Iterator[tuple[str, str, str]]:
    """Name, default and description of each value below a schema."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    if "description" in schema:
        yield name, shown(values), schema["description"]
        return
    defaults = values if isinstance(values, dict) else {}
    for key, one in schema["properties"].items():
        yield from rows(one, root, defaults.get(key), f"{name}.{key}".lstrip("."))


def shown(default: object) -> str:
    """A default as people write it; empty if there is no default."""
    if default in (None, "", [], {}):
        return ""
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=sys.maxsize)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    sys.exit(main())
