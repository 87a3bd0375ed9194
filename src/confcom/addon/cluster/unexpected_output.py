"""Parsing the output of kubectl and helm that exited with 0: JSON, YAML manifests, and names.

The output need not be theirs: a wrapper of the same name, or a proxy with a login page, exits with 0 too. Unexpected
output is shown in the error; it is not reported as an internal error, and not read as an empty cluster.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from subprocess import CompletedProcess
from typing import Any

from confcom.addon.cluster.programs import ClusterAccessError, manual_command
from confcom.errors import printable
from confcom.kubernetes.objects import KubernetesObject

MAX_SHOWN_CHARACTERS = 120
"""Limit for the output and for the parse error in a message: enough for a page's title or a wrapper's first line."""
_HEAD_BYTES = 100 * MAX_SHOWN_CHARACTERS
"""How much of the output is searched for them: enough if it is indented or begins with empty lines."""
_RESOURCE_NAME = re.compile("([a-z0-9.-]+)/([^/]+)")
"""A line of kubectl's with --output=name."""
_SPACE = re.compile(r"\s*")


class Form(Enum):
    """What a program is to print: its name in errors, and the members that each object has."""

    OBJECT = "a JSON object", ()
    OBJECT_OR_NULL = "a JSON object or null", ()
    """Go writes a nil map as null: it is read as an empty object."""
    REVISIONS = "a list of revisions", (("revision", int), ("status", str))
    """Go writes a nil slice as null: it is read as an empty list."""
    RESOURCE = "a Kubernetes object", (("kind", str),)
    """Nothing is printed with --ignore-not-found if it does not exist."""
    RESOURCES = "a list of Kubernetes objects", (("kind", str),)
    """JSON documents, one after the other; of a list, its items. Nothing may be printed if none exists."""
    MANIFESTS = "manifests", (("kind", str), ("apiVersion", str))
    """YAML documents."""
    NAMES = "names of Kubernetes objects", (("kind", str),)
    """Lines of kubectl's with --output=name."""


def read_objects(done: CompletedProcess[bytes], failure: str, form: Form) -> tuple[KubernetesObject, ...]:
    """Parse the output of a program that ended with exit code 0.

    Args:
        done: the program.
        failure: the error's text if it printed something else, as in "nodes cannot be listed".
        form: what it is to print.

    Raises:
        ClusterAccessError: it printed something else, which the error shows.
    """
    expected, members = form.value
    try:
        found = tuple(_objects(done.stdout, form))
        if not all(isinstance(one, dict) for one in found):
            raise ValueError
        for key, kind in members:
            if not all(isinstance(one.get(key), kind) for one in found):
                raise ValueError(f"without {key}")
    except (ValueError, RecursionError) as error:
        raise not_readable(done, failure, expected, error) from error
    return found


def not_readable(done: CompletedProcess[bytes], failure: str, expected: str, error: Exception) -> ClusterAccessError:
    """Return the error for a program that printed something else than was expected, which it shows.

    Args:
        done: the program.
        failure: the error's text, as in "nodes cannot be listed".
        expected: what the program was to print.
        error: what is wrong with it.
    """
    program, shown = done.args[0], _beginning(done.stdout[:_HEAD_BYTES].decode(errors="replace"))
    fault = f" ({_beginning(str(error))})" if str(error) else ""
    return ClusterAccessError.of(
        failure,
        f"{program} printed this instead of {expected}{fault}: {shown}"
        if shown
        else f"{program} printed nothing instead of {expected}",
        f"see whether a wrapper of {program}, or a proxy, answers in its place; {manual_command(done.args)}",
        error_code="output-not-readable",
    )


def _objects(stdout: bytes, form: Form) -> Iterator[Any]:
    """Yield the objects; whether they are objects, and have the members, is left to the caller.

    Raises:
        ValueError, RecursionError: the output has another form.
    """
    if form is Form.MANIFESTS:
        yield from _yaml_documents(stdout)
        return
    text = stdout.decode("utf-8-sig")
    if form is Form.NAMES:
        yield from map(_named, filter(None, map(str.strip, text.split("\n"))))
        return
    match form, list(_json_documents(text)):
        case Form.RESOURCES, documents:
            for one in documents:
                yield from _items(one) if isinstance(one, dict) and "items" in one else [one]
        case Form.REVISIONS, [found]:
            yield from _items({"items": found})
        case Form.OBJECT_OR_NULL, [None]:
            yield {}
        case Form.RESOURCE, []:
            return
        case _, [found]:
            yield found
        case _, documents:
            raise ValueError(f"{len(documents)} documents")


def _items(thing: Mapping[str, object]) -> list[object]:
    """Return the items of a list. Go writes a nil slice as null."""
    found = thing["items"]
    if isinstance(found, list | None):
        return found or []
    raise ValueError


def _named(line: str) -> KubernetesObject:
    match = _RESOURCE_NAME.fullmatch(line)
    if match is None:
        raise ValueError
    return {"kind": match[1], "metadata": {"name": match[2]}}


def _json_documents(text: str) -> Iterator[object]:
    decoder, at = json.JSONDecoder(), _behind_space(text, 0)
    while at < len(text):  # by index: a copy of a large cluster's objects would take another 300 MB
        document, end = decoder.raw_decode(text, at)
        yield document
        at = _behind_space(text, end)


def _yaml_documents(stdout: bytes) -> Iterator[object]:
    import yaml  # noqa: PLC0415 # takes 20 ms, and most commands do not need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield from (one for one in yaml.load_all(stdout, Loader=loader) if one is not None)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _behind_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _beginning(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_SHOWN_CHARACTERS else f"{line[:MAX_SHOWN_CHARACTERS]} ..."
