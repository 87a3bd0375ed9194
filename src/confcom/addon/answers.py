"""What kubectl and helm printed when they ended well, which need not be what they were asked for.

A wrapper of the same name, or a proxy with its login page, ends well too. What it printed is shown then; it is taken
neither for a bug of ours nor for an empty cluster.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess

from confcom.addon.objects import KubernetesObject
from confcom.addon.programs import ClusterAccessError, by_hand
from confcom.errors import printable

MAX_SHOWN_CHARACTERS = 120
"""Of what was printed, and of what is wrong with it: a page's title or a wrapper's first line is in there."""
_HEAD_BYTES = 100 * MAX_SHOWN_CHARACTERS
"""Of what was printed, in which these are found although it is indented or begins with empty lines."""
_RESOURCE_NAME = re.compile("[a-z0-9.-]+/[^/]+")
"""A line of kubectl's with --output=name."""
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class CommandOutput:
    """What a program printed; each way to read it raises ClusterAccessError if it cannot be read so.

    Args:
        command: the one that was run.
        failure: what happened if it cannot be read, as in "nodes cannot be listed".
        stdout: all of it.
    """

    command: Sequence[str]
    failure: str
    stdout: bytes

    @classmethod
    def of(cls, done: CompletedProcess[bytes], failure: str) -> CommandOutput:
        """Of a program that has ended well."""
        return cls(done.args, failure, done.stdout)

    def within(self, part: str) -> CommandOutput:
        """A part of it that is to be read in another way."""
        return dataclasses.replace(self, stdout=part.encode("utf-8", errors="surrogatepass"))

    def mapping(self) -> KubernetesObject:
        """A JSON object."""
        expected = "a JSON object"
        found = self._json(expected)
        if not isinstance(found, Mapping):
            raise self.unreadable(expected)
        return found

    def mapping_or_null(self) -> KubernetesObject:
        """A JSON object; Go writes one that was never filled as null."""
        return {} if self.stdout.strip() == b"null" else self.mapping()

    def mappings(self) -> tuple[KubernetesObject, ...]:
        """The objects of a JSON list."""
        expected = "a list of JSON objects"
        return self._mappings(self._json(expected), expected)

    def resource(self) -> KubernetesObject | None:
        """A Kubernetes object; with --ignore-not-found, kubectl prints nothing for none."""
        found = self.resources()
        if len(found) > 1:
            raise self.unreadable("a Kubernetes object", f"{len(found)} documents")
        return found[0] if found else None

    def resources(self) -> tuple[KubernetesObject, ...]:
        """Kubernetes objects, one JSON document behind the other."""
        expected = "Kubernetes objects"
        return self._resources(self._documents(expected), expected)

    def items(self) -> tuple[KubernetesObject, ...]:
        """The objects of a Kubernetes list; of several kinds, kubectl prints nothing where there is none."""
        if self._empty:
            return ()
        expected = "a list of Kubernetes objects"
        found = self._json(expected)
        if not isinstance(found, Mapping) or "items" not in found:
            raise self.unreadable(expected)
        return self._resources(found["items"], expected)

    def manifests(self) -> tuple[KubernetesObject, ...]:
        """The Kubernetes objects of a stream of YAML documents."""
        import yaml  # noqa: PLC0415 # 20 ms that most commands do without

        expected = "manifests"
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            documents = [one for one in yaml.load_all(self.stdout, Loader=loader) if one is not None]
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise self.unreadable(expected, str(error)) from error
        return self._resources(documents, expected, keys=("kind", "apiVersion"))

    def names(self) -> frozenset[str]:
        """What there is, as kubectl tells it with --output=name."""
        lines = self.stdout.decode("utf-8", errors="replace").split("\n")
        found = frozenset(line.strip() for line in lines if line.strip())
        if not all(map(_RESOURCE_NAME.fullmatch, found)):
            raise self.unreadable("names of Kubernetes objects")
        return found

    def unreadable(self, expected: str, fault: str = "") -> ClusterAccessError:
        """The error that shows what was printed.

        Args:
            expected: what should have been.
            fault: what is wrong with it, if that is known.
        """
        program = self.command[0]
        why = f"{program} printed nothing instead of {expected}"
        if not self._empty:
            told = f"{expected} ({_beginning(fault)})" if fault else expected
            why = f"{program} printed this instead of {told}: {_beginning(self._head)}"
        remedy = f"see whether a wrapper of {program}, or a proxy, answers in its place; {by_hand(self.command)}"
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
            while at < len(text):  # by index: a copy of a large cluster's objects would take 300 MB more
                document, end = decoder.raw_decode(text, at)
                found.append(document)
                at = _behind_space(text, end)
        except (ValueError, RecursionError) as error:
            raise self.unreadable(expected, str(error)) from error
        return found

    def _mappings(self, found: object, expected: str) -> tuple[KubernetesObject, ...]:
        if found is None:
            return ()  # as Go writes a slice that was never filled
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
