"""Parsing what kubectl and helm print when they exit with 0.

The output need not be theirs: a wrapper of the same name, or a proxy with a login page, exits with 0 too. Unexpected
output is shown in the error; it is not reported as an internal error, and not read as an empty cluster.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess

from confcom.addon.cluster.programs import ClusterAccessError, manual_command
from confcom.errors import printable
from confcom.kubernetes.objects import KubernetesObject

MAX_SHOWN_CHARACTERS = 120
"""Limit for the output and for the parse error in a message: enough for a page's title or a wrapper's first line."""
_HEAD_BYTES = 100 * MAX_SHOWN_CHARACTERS
"""How much of the output is searched for them: enough if it is indented or begins with empty lines."""
_RESOURCE_NAME = re.compile("[a-z0-9.-]+/[^/]+")
"""A line of kubectl's with --output=name."""
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a program printed. Each method parses it in one way, and raises ClusterAccessError if that fails.

    Args:
        command: the command that was run.
        failure: the error's text if parsing fails, as in "nodes cannot be listed".
        stdout: all of the output.
    """

    command: Sequence[str]
    failure: str
    stdout: bytes

    @classmethod
    def of(cls, done: CompletedProcess[bytes], failure: str) -> CommandOutput:
        """Create it from a completed process with exit code 0."""
        return cls(done.args, failure, done.stdout)

    def within(self, part: str) -> CommandOutput:
        """Return an output that consists of this part only, to parse it in another way."""
        return dataclasses.replace(self, stdout=part.encode("utf-8", errors="surrogatepass"))

    def mapping(self) -> KubernetesObject:
        """Parse one JSON object."""
        expected = "a JSON object"
        found = self._json(expected)
        if not isinstance(found, Mapping):
            raise self.unreadable(expected)
        return found

    def mapping_or_null(self) -> KubernetesObject:
        """Parse one JSON object; null is an empty one, since Go writes a nil map as null."""
        return {} if self.stdout.strip() == b"null" else self.mapping()

    def mappings(self) -> tuple[KubernetesObject, ...]:
        """Parse a JSON list of objects."""
        expected = "a list of JSON objects"
        return self._mappings(self._json(expected), expected)

    def resource(self) -> KubernetesObject | None:
        """Parse at most one Kubernetes object; with --ignore-not-found, kubectl prints nothing if it does not exist."""
        found = self.resources()
        if len(found) > 1:
            raise self.unreadable("a Kubernetes object", f"{len(found)} documents")
        return found[0] if found else None

    def resources(self) -> tuple[KubernetesObject, ...]:
        """Parse Kubernetes objects: JSON documents, one after the other."""
        expected = "Kubernetes objects"
        return self._resources(self._documents(expected), expected)

    def items(self) -> tuple[KubernetesObject, ...]:
        """Parse a Kubernetes list; when several kinds are asked for and none exists, kubectl prints nothing."""
        if self._empty:
            return ()
        expected = "a list of Kubernetes objects"
        found = self._json(expected)
        if not isinstance(found, Mapping) or "items" not in found:
            raise self.unreadable(expected)
        return self._resources(found["items"], expected)

    def manifests(self) -> tuple[KubernetesObject, ...]:
        """Parse Kubernetes objects from a stream of YAML documents."""
        import yaml  # noqa: PLC0415 # takes 20 ms, and most commands do not need it

        expected = "manifests"
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            documents = [one for one in yaml.load_all(self.stdout, Loader=loader) if one is not None]
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self.unreadable(expected, str(error)) from error
        return self._resources(documents, expected, keys=("kind", "apiVersion"))

    def names(self) -> frozenset[str]:
        """Parse the output of kubectl --output=name."""
        lines = self.stdout.decode("utf-8", errors="replace").split("\n")
        found = frozenset(line.strip() for line in lines if line.strip())
        if not all(map(_RESOURCE_NAME.fullmatch, found)):
            raise self.unreadable("names of Kubernetes objects")
        return found

    def unreadable(self, expected: str, fault: str = "") -> ClusterAccessError:
        """Return the error that shows what was printed.

        Args:
            expected: the kind of output that was expected.
            fault: the parse error, if known.
        """
        program = self.command[0]
        why = f"{program} printed nothing instead of {expected}"
        if not self._empty:
            told = f"{expected} ({_beginning(fault)})" if fault else expected
            why = f"{program} printed this instead of {told}: {_beginning(self._head)}"
        remedy = f"see whether a wrapper of {program}, or a proxy, answers in its place; {manual_command(self.command)}"
        return ClusterAccessError(self.failure, why=why, remedy=remedy)

    @property
    def _head(self) -> str:
        return self.stdout[:_HEAD_BYTES].decode(errors="replace")

    @property
    def _empty(self) -> bool:
        return not self.stdout or self.stdout.isspace()

    def _json(self, expected: str) -> object:
        documents = self._documents(expected)
        if len(documents) != 1:
            raise self.unreadable(expected, f"{len(documents)} documents")
        return documents[0]

    def _documents(self, expected: str) -> list[object]:
        decoder = json.JSONDecoder()
        found: list[object] = []
        try:
            text = self.stdout.decode("utf-8-sig")
            at = _behind_space(text, 0)
            while at < len(text):  # by index: a copy of a large cluster's objects would take another 300 MB
                document, end = decoder.raw_decode(text, at)
                found.append(document)
                at = _behind_space(text, end)
        except (ValueError, RecursionError) as error:
            raise self.unreadable(expected, str(error)) from error
        return found

    def _mappings(self, found: object, expected: str) -> tuple[KubernetesObject, ...]:
        if found is None:
            return ()  # Go writes a nil slice as null
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise self.unreadable(expected)
        return tuple(found)

    def _resources(
        self, found: object, expected: str, *, keys: Sequence[str] = ("kind",)
    ) -> tuple[KubernetesObject, ...]:
        resources = self._mappings(found, expected)
        for key in keys:
            if not all(isinstance(one.get(key), str) for one in resources):
                raise self.unreadable(expected, f"without {key}")
        return resources


def _behind_space(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    return match.end() if match else start


def _beginning(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= MAX_SHOWN_CHARACTERS else f"{line[:MAX_SHOWN_CHARACTERS]} ..."
