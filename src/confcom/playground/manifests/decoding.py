"""Decoding of manifests as in the API server: Go's JSON rules and error texts first, then the rules of each value.

The types are the dataclasses of `v1`: their annotations say what is decoded, and what else must hold of a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import NoneType
from typing import Annotated, Any, TypeAlias, TypeGuard, TypeVar, get_args, get_origin, get_type_hints

from confcom.playground.api.errors import ManifestError
from confcom.playground.manifests.quantity import Quantity

MAX_SHOWN = 64
"""Characters of a value of a wrong type that an error repeats."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with a value: the API server's text, and the field's path."""

    text: str
    path: str
    code: str


Rule: TypeAlias = Callable[[Any, str], Iterable[FieldError]]
"""Yields what is wrong with the value at a path. An annotation `Annotated[type, rule, ...]` has any number of them."""

Int32: TypeAlias = Annotated[int, 32]
Int64: TypeAlias = Annotated[int, 64]


class Struct:
    """A struct of the Kubernetes API with the fields that are supported; the class has the name of Go's."""

    __slots__ = ()

    def errors(self, path: str) -> Iterable[FieldError]:
        """Return what is wrong with its fields together; `path` ends with a dot, for names to follow."""
        del path
        return ()


_Struct = TypeVar("_Struct", bound=Struct)
_T = TypeVar("_T")


def rule(text: str, broken: Callable[[Any], object], *, code: str) -> Rule:
    """Return a rule for one value; the text has `{}` for the value."""

    def check(value: object, path: str) -> Iterator[FieldError]:
        if broken(value):
            yield FieldError(text.format(value), path, code)

    return check


def camel_case(name: str) -> str:
    """Return the name in JSON of an attribute."""
    return re.sub("_(.)", lambda match: match[1].upper(), name)


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes one document of one kind.

    Args:
        kind: `Job` or `Pod`.
        warnings: one for each field that has no effect.
        errors: what is wrong with the values.
    """

    kind: str
    warnings: list[str] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)

    def decode(self, document: Mapping[Any, Any], struct: type[_Struct], path: str = "") -> _Struct:
        """Return an object as a struct, in which absent and null fields have their defaults.

        Raises:
            ManifestError: a value has a type that Go's decoder would refuse.
        """
        start = f"{path}." if path else ""
        hints = {camel_case(name): (name, hint) for name, hint in get_type_hints(struct, include_extras=True).items()}
        unknown = (key for key in document if key not in hints)
        self.warnings.extend(f"{start}{key} is not supported here and has no effect" for key in unknown)
        decoded = {}
        for key, (name, hint) in hints.items():
            item = document.get(key)
            if item is None and _is(hint, Struct):
                item = {}
            if item is not None:
                decoded[name] = self._value(item, hint, struct.__name__, start + key)
        made = struct(**decoded)
        for key, (name, hint) in hints.items():
            rules: list[Rule] = [extra for extra in _unwrap(hint)[1] if callable(extra)]
            self.errors.extend(error for rule in rules for error in rule(getattr(made, name), start + key))
        self.errors.extend(made.errors(start))
        return made

    def _value(self, value: object, hint: object, struct: str, path: str) -> object:
        hint, extras = _unwrap(hint)
        inner = get_args(hint)
        size = next((extra for extra in extras if isinstance(extra, int)), 0)
        match value:
            case dict() if _is(hint, Struct):
                return self.decode(value, hint, path)
            case dict() if get_origin(hint) is Mapping:
                items = ((str(key), item) for key, item in value.items() if item is not None)
                return {key: self._value(item, inner[1], struct, f"{path}[{key}]") for key, item in items}
            case list() if get_origin(hint) is tuple:
                elements = ((index, item) for index, item in enumerate(value) if item is not None)
                return tuple(self._value(item, inner[0], struct, f"{path}[{index}]") for index, item in elements)
            case str() | int() | float() if hint is Quantity and not isinstance(value, bool):
                return self._quantity(str(value).strip(), path)
            case str() if _is(hint, StrEnum):
                return self._member(value, hint, path)
            case str() | bool() if type(value) is hint:
                pass
            case int() if size and not isinstance(value, bool) and -(1 << size - 1) <= value < 1 << size - 1:
                pass
            case _:
                raise self._wrong_type(value, f"int{size}" if size else _go_name(hint), struct, path)
        return value

    def _member(self, value: str, enum: type[StrEnum], path: str) -> str:
        if value in set(enum):
            return enum(value)
        listed = ", ".join(f'"{one}"' for one in enum)
        self.errors.append(
            FieldError(f'Unsupported value: "{value}": supported values: {listed}', path, code="value-not-supported")
        )
        return value

    def _quantity(self, text: str, path: str) -> Quantity:
        try:
            return Quantity.parse(text)
        except ValueError as error:
            raise ManifestError(
                f'{self.kind} in version "v1" cannot be handled as a {self.kind}: {error}',
                error_code="not-a-quantity",
                why=f"{path} is {text[:MAX_SHOWN]!r}",
                remedy="write a number, with a unit such as Mi if the resource counts bytes",
            ) from None

    def _wrong_type(self, value: object, wanted: str, struct: str, path: str) -> ManifestError:
        shown = _JSON_KINDS.get(type(value), "object")
        remedy = f"{path} must be of type {wanted}"
        if wanted == "string" and shown in {"number", "bool"}:
            remedy = f'write the value of {path} in quotes, as in value: "1"'
        if wanted.startswith("int") and shown == "number":
            shown += f" {str(value)[:MAX_SHOWN]}"
        go_field = struct + "." + re.sub(r"\[.*?\]", "", path)
        return ManifestError(
            f'{self.kind} in version "v1" cannot be handled as a {self.kind}: json: cannot unmarshal {shown} into Go '
            f"struct field {go_field} of type {wanted}",
            error_code="wrong-type",
            why="the API server decodes manifests strictly and refuses this before anything else sees it",
            remedy=remedy,
        )


_JSON_KINDS = {bool: "bool", int: "number", float: "number", str: "string", list: "array"}


def _unwrap(hint: object) -> tuple[object, tuple[object, ...]]:
    """Return a type without `Annotated` and `| None`, and what the annotation adds to it."""
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        return hint, tuple(extras)
    return get_args(hint)[0] if NoneType in get_args(hint) else hint, ()


def _is(hint: object, base: type[_T]) -> TypeGuard[type[_T]]:
    return isinstance(hint, type) and issubclass(hint, base)


def _go_name(hint: object) -> str:
    if get_origin(hint) is tuple:
        return f"[]{_go_name(get_args(hint)[0])}"
    if get_origin(hint) is Mapping:
        return "v1.ResourceList" if Quantity in get_args(hint) else "map[string]string"
    names: dict[object, str] = {str: "string", bool: "bool", Quantity: "resource.Quantity"}
    return names.get(hint) or f"v1.{getattr(hint, '__name__', '')}"
