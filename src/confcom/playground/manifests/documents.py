"""Conversion of YAML text to JSON-like documents, as Kubernetes' tools do it, with limits."""

from __future__ import annotations

from typing import Any

import yaml

from confcom.playground.api.errors import ManifestError

MAX_MANIFEST_BYTES = 1024 * 1024
"""etcd's default limit for one request is 1.5 MiB, so a larger object could not be stored in a cluster."""

_MERGE_TAG = "tag:yaml.org,2002:merge"
_TIMESTAMP_TAG = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """SafeLoader without timestamps and merge keys; it refuses aliases, duplicate keys and lone surrogates."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not supported here: a few lines of them can stand for gigabytes",
                problem_mark=self.get_mark(),
            )
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: dict[Any, yaml.Node]) -> yaml.ScalarNode:
        # JSON encodes a character beyond 16 bits as a pair of surrogates. A lone surrogate is not a character and
        # cannot be passed to a program.
        node = super().compose_scalar_node(anchor)
        try:
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise yaml.MarkedYAMLError(
                problem="found invalid Unicode character escape code", problem_mark=node.start_mark
            ) from None
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001 - PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if key.value.__hash__ is None:
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f'key "{key.value}" already set in map', problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_TIMESTAMP_TAG, _MERGE_TAG}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_documents(text: str) -> list[dict[str, Any]]:
    """Return a manifest's documents that are not empty.

    Raises:
        ManifestError: the manifest is too long or not YAML, or a document is not an object.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_MANIFEST_BYTES:
        raise ManifestError(
            f"the manifest has {size:,} bytes",
            error_code="manifest-too-long",
            why=f"at most {MAX_MANIFEST_BYTES:,} are read: no API server could store more",
            remedy="split it",
        )
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except RecursionError:
        raise ManifestError(
            "the manifest is nested too deeply", error_code="manifest-too-deep", remedy="check its indentation"
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ManifestError(
            f"error converting YAML to JSON: yaml: {_in_one_line(error)}",
            error_code="manifest-not-yaml",
            remedy="check indentation, quotes and colons at that place",
        ) from None
    for document in documents:
        if not isinstance(document, dict):
            raise ManifestError(
                "the manifest is not an object",
                error_code="manifest-not-an-object",
                why=f"a document of it is a {type(document).__name__}",
                remedy="start with apiVersion:, kind: and metadata:",
            )
    return documents


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark else " ".join(str(problem).split())
