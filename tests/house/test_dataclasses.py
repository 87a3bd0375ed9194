"""Dataclasses have slots, and are frozen or have only `Final` fields, unless code assigns a field."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "confcom"
TREES = {path: ast.parse(path.read_text()) for path in SOURCE.rglob("*.py") if "_pb2" not in path.name}


def assigned_attributes():
    """Yield the names of all attributes that any statement in the source assigns."""
    for tree in TREES.values():
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                yield from (part.attr for part in parts if isinstance(part, ast.Attribute))


ASSIGNED = frozenset(assigned_attributes())


def dataclasses_of(tree):
    """Yield every dataclass and its decorator's options."""
    for node in ast.walk(tree):
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            call = decorator if isinstance(decorator, ast.Call) else None
            if getattr(call.func if call else decorator, "id", "") == "dataclass":
                yield node, {one.arg: one.value.value for one in (call.keywords if call else ())}


def is_variable(statement):
    """Whether a statement declares a field to which mypy allows assignments."""
    fixed = ("Final", "ClassVar")
    return isinstance(statement, ast.AnnAssign) and not ast.unparse(statement.annotation).startswith(fixed)


def rules_broken(tree):
    for node, options in dataclasses_of(tree):
        fields = {statement.target.id for statement in node.body if is_variable(statement)}
        if not options.get("slots"):
            yield f"{node.name} has no slots"
        if not options.get("frozen") and fields and not fields & ASSIGNED:
            yield f"{node.name} is not frozen, and nothing assigns {', '.join(sorted(fields))}"


@pytest.mark.parametrize("path", TREES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_dataclasses_have_slots_and_are_frozen(path):
    assert not list(rules_broken(TREES[path]))
