"""Write the Python interface into docs/reference/python.md, by signatures and docstrings; --check fails if it differs.

The interface is the `__all__` of each module in MODULES. Members and optional parameters are left out if their types
are not part of the interface: only other packages of confcom use them.
"""

import ast
import dataclasses
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import pairwise
from types import ModuleType, UnionType
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from generated_part import table, write_or_check

from confcom.verify.argument_types import Argument

MODULES = (
    *("confcom.verify", "confcom.verify.ratls", "confcom.collateral", "confcom.service"),
    *("confcom.testing", "confcom.testing.collateral_service", "confcom.client"),
)
WIDTH = 100
"""Most characters of a signature on one line; a longer signature has a line for each parameter."""
MAX_DEFAULT = 24
"""Characters of a default value; a longer one is `...`, and the parameter's text says what it is."""


def main() -> int:
    modules = [importlib.import_module(name) for name in MODULES]
    interface = Interface(modules)
    return write_or_check({"python.md": {module.__name__: "".join(interface.part(module)) for module in modules}})


@dataclasses.dataclass(frozen=True, slots=True)
class Doc:
    """A docstring in Google's style, with each paragraph on one line."""

    text: str
    arguments: dict[str, str]
    returns: str
    raises: dict[str, str]

    @classmethod
    def of(cls, documented: object) -> Self:
        sections: dict[str, list[str]] = {"": [], "Args": [], "Returns": [], "Raises": []}
        current = ""
        for line in inspect.cleandoc(documented.__doc__ or "").splitlines():
            if line.endswith(":") and line[:-1] in sections:
                current = line[:-1]
            else:
                current = current if line.startswith(" ") or not line else ""
                sections[current].append(line)
        paragraphs = "\n".join(sections[""]).split("\n\n")
        text = "\n\n".join(one_line(part) for part in paragraphs if part.strip())
        arguments, raises = (entries("\n".join(sections[name])) for name in ("Args", "Raises"))
        return cls(text, arguments, one_line(" ".join(sections["Returns"])), raises)


def entries(section: str) -> dict[str, str]:
    parts = re.split(r"^(?=\S)", textwrap.dedent(section), flags=re.MULTILINE)
    pairs = (one_line(part).partition(": ") for part in parts if part.strip())
    return {name: text for name, _, text in pairs}


class Interface:
    """The public names of all modules, and the page's text about them."""

    def __init__(self, modules: Sequence[ModuleType]) -> None:
        self.home = {id(getattr(module, name)): module for module in reversed(modules) for name in module.__all__}
        """The first module that has an object, keyed by the object's id."""

    def part(self, module: ModuleType) -> Iterator[str]:
        """The page's text about one module: functions, classes, constants and types, errors."""
        named = {name: getattr(module, name) for name in module.__all__}
        own = {name: value for name, value in named.items() if self.home[id(value)] is module}
        functions = {name: value for name, value in own.items() if inspect.isfunction(value)}
        errors = {name: value for name, value in own.items() if is_kind(value, Exception)}
        classes = {name: value for name, value in own.items() if inspect.isclass(value) and name not in errors}
        for name, function in functions.items():
            if not self.is_usable(function):
                sys.exit(f"{name} takes or returns a type that is not public")
            yield f"### `{name}`\n\n"
            yield from self.function(name, function)
        for kind in classes.values():
            yield from enumeration(kind) if is_kind(kind, Enum) else self.class_(kind)
        if others := [name for name in own if name not in functions | classes | errors]:
            yield "### Constants and types\n\n"
            yield from bullets((name, shown_type(own[name]) + constant_text(module, name)) for name in others)
        if errors:
            yield "### Errors\n\n"
            yield table(["error", "kind of", "code", ""], map(self.error_row, errors.values())) + "\n"
        for home in dict.fromkeys(self.home[id(value)] for name, value in named.items() if name not in own):
            shared = (f"`{name}`" for name, value in named.items() if self.home[id(value)] is home)
            yield f"As in `{home.__name__}`: {', '.join(shared)}.\n\n"

    def function(self, name: str, function: Callable[..., Any]) -> Iterator[str]:
        doc = Doc.of(function)
        yield f"```text\n{self.signature(name, function)}\n```\n\n"
        yield from described(name, doc, self.arguments(doc, function))

    def class_(self, kind: type) -> Iterator[str]:
        """A class: its constructor if programs call it, its fields and properties, its methods."""
        name, doc = kind.__name__, Doc.of(kind)
        yield f"### `{name}`\n\n"
        initializer = None if dataclasses.is_dataclass(kind) else kind.__init__
        if doc.arguments or (is_ours(initializer) and self.is_usable(initializer)):
            yield f"```text\n{self.signature(name, kind)}\n```\n\n"
        arguments = self.arguments(doc, kind)
        told = {one for base in kind.__mro__[:-1] for one in Doc.of(base).arguments}
        fields = [(f"{one}: {hint}", text) for one, hint, text in self.fields(kind) if one not in told]
        yield from described(name, doc, [*arguments, *fields])
        for one, value in own_members(kind):
            if (inspect.isfunction(value) or isinstance(value, classmethod)) and self.is_usable(getattr(kind, one)):
                yield from self.function(f"{name}.{one}", getattr(kind, one))

    def error_row(self, kind: type[Exception]) -> tuple[str, str, str, str]:
        base = next(one for one in kind.__mro__[1:] if id(one) in self.home or one is Exception)
        doc, code = Doc.of(kind), vars(kind).get("error_code", "")
        attributes = [f"`{name}`: {text}" for name, text in doc.arguments.items()]
        text = " ".join([*doc.text.split("\n\n"), *attributes])
        return f"`{kind.__name__}`", f"`{base.__name__}`", f"`{code}`" if code else "", required(kind.__name__, text)

    def fields(self, kind: type) -> Iterator[tuple[str, str, str | None]]:
        """Name, type and text of the fields of a dataclass or NamedTuple, and of the properties of any class."""
        texts = attribute_texts(kind)
        hints = get_type_hints(kind)
        declared = (
            [(one.name, str(one.type)) for one in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        )
        declared += [(one, kind.__annotations__[one].__forward_arg__) for one in getattr(kind, "_fields", ())]
        for name, hint in declared:
            if not name.startswith("_") and self.has(hints[name]):
                yield name, hint, texts.get(name)
        for name, value in own_members(kind):
            if isinstance(value, property) and self.has(get_type_hints(value.fget)["return"]):
                yield name, inspect.signature(value.fget).return_annotation, Doc.of(value).text

    def is_usable(self, function: Callable[..., Any]) -> bool:
        """Whether a function needs and returns only types of the interface."""
        parameters = inspect.signature(function).parameters.values()
        optional = {one.name for one in parameters if one.default is not one.empty}
        return all(self.has(hint) for name, hint in get_type_hints(function).items() if name not in optional)

    def arguments(self, doc: Doc, function: Callable[..., Any]) -> list[tuple[str, str | None]]:
        """Names and texts of all arguments; empty where the text above says everything."""
        own = inspect.signature(function).parameters
        named = {one.name for one in self.parameters(function)} | doc.arguments.keys()
        told = {one for base in getattr(function, "__mro__", ())[1:-1] for one in Doc.of(base).arguments}
        return [(name, doc.arguments.get(name)) for name in own if name in named - told and doc.arguments]

    def parameters(self, function: Callable[..., Any]) -> list[inspect.Parameter]:
        """The parameters whose types are part of the interface, without `self`."""
        hints = parameter_hints(function)
        parameters = inspect.signature(function).parameters.values()
        return [one for one in parameters if one.name in hints and self.has(hints[one.name])]

    def signature(self, name: str, function: Callable[..., Any]) -> str:
        words, hints = list[str](), parameter_hints(function)
        for one in self.parameters(function):
            if one.kind is one.KEYWORD_ONLY and "*" not in words:
                words.append("*")
            default = "" if one.default is one.empty else f" = {self.default(one.default)}"
            given = given_type(one.annotation, hints[one.name])
            words.append(f"{one.replace(annotation=one.empty, default=one.empty)}: {given}{default}")
        returned = "" if inspect.isclass(function) else f" -> {inspect.signature(function).return_annotation}"
        begin = f"async {name}" if inspect.iscoroutinefunction(function) else name
        line = f"{begin}({', '.join(words)}){returned}"
        return line if len(line) <= WIDTH else f"{begin}(\n    " + ",\n    ".join(words) + f",\n){returned}"

    def default(self, value: object) -> str:
        if isinstance(value, Enum) and id(type(value)) in self.home:
            return f"{type(value).__name__}.{value.name}"
        text = str(int(value)) if isinstance(value, Enum) and isinstance(value, int) else repr(value)
        text = text.removeprefix("datetime.")
        return text if len(text) <= MAX_DEFAULT else "..."

    def has(self, hint: object) -> bool:
        """Whether a type is part of the interface, or not from confcom."""
        if id(hint) in self.home or isinstance(hint, TypeVar):
            return True
        if parts := hint if isinstance(hint, list) else get_args(hint):
            return all(map(self.has, parts))
        return not is_ours(hint)


def described(name: str, doc: Doc, members: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    yield required(name, doc.text) + "\n\n"
    yield from bullets((member, required(f"{name}: {member}", text)) for member, text in members)
    if doc.returns:
        yield f"Returns: {doc.returns}\n\n"
    if doc.raises:
        yield "Raises:\n\n"
        yield from bullets(doc.raises.items())


def enumeration(kind: type[Enum]) -> Iterator[str]:
    texts = attribute_texts(kind)
    yield f"### `{kind.__name__}`\n\n{required(kind.__name__, Doc.of(kind).text)}\n\n"
    if texts:
        yield from bullets((one.name, f"`{one.value}`. {required(str(one), texts.get(one.name))}") for one in kind)
    else:
        yield ", ".join(f"`{one.name}` ({one.value})" for one in kind) + "\n\n"


def is_kind(value: object, base: type) -> bool:
    return inspect.isclass(value) and issubclass(value, base)


def is_ours(value: object) -> bool:
    return str(getattr(value, "__module__", "")).partition(".")[0] == "confcom"


def own_members(kind: type) -> Iterator[tuple[str, object]]:
    """Public members that our classes define, without those that a library's class already has."""
    foreign = [base for base in kind.__mro__ if not is_ours(base)]
    for base in filter(is_ours, reversed(kind.__mro__)):
        for name, value in vars(base).items():
            if name.startswith("_") or inspect.getattr_static(kind, name) is not value:
                continue
            if not any(hasattr(one, name) for one in foreign):
                yield name, value


def attribute_texts(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in filter(is_ours, reversed(kind.__mro__)):
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        found |= texts_behind(tree.body if isinstance(tree, ast.ClassDef) else [])
    return found


def texts_behind(statements: Sequence[ast.stmt]) -> dict[str, str]:
    """The literal text behind each assignment that has such a text, keyed by the assigned name."""
    found = {}
    for statement, following in pairwise(statements):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = one_line(text)
    return found


def constant_text(module: ModuleType, name: str) -> str:
    """The text that follows a constant in the module that defines the constant."""
    defining = module
    for statement in ast.parse(inspect.getsource(module)).body:
        if isinstance(statement, ast.ImportFrom) and name in {one.name for one in statement.names}:
            defining = sys.modules[str(statement.module)]
    return required(name, texts_behind(ast.parse(inspect.getsource(defining)).body).get(name))


def parameter_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of parameters; a dataclass's fields are resolved each in the module of its class."""
    own_constructor = inspect.isclass(function) and not dataclasses.is_dataclass(function)
    return get_type_hints(function.__init__ if own_constructor else function)


def given_type(annotation: str, hint: object) -> str:
    """The type that a parameter takes; a field that is kept as another type is an Argument."""
    return short(str(get_args(hint)[0])) if get_origin(hint) is Argument else annotation


def shown_type(value: object) -> str:
    """The types that an alias stands for; nothing for a constant."""
    return f"`{short(str(value))}`. " if isinstance(value, UnionType) else ""


def short(types: str) -> str:
    return re.sub(r"(confcom|collections)[.a-z_]*[.]", "", types)


def bullets(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    lines = [f"* `{name}`: {text}\n" for name, text in items]
    yield "".join([*lines, "\n"]) if lines else ""


def one_line(text: str) -> str:
    return " ".join(text.split())


def required(name: str, text: str | None) -> str:
    return text or sys.exit(f"{name}: a public name needs a text")


if __name__ == "__main__":
    sys.exit(main())
