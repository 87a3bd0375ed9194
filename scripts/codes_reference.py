"""Write the list of codes into docs/reference/codes.md; --check fails if what is there differs.

Codes and messages are read from the source: each call whose code is literal or a constant of its module, each error
class that has one, and each refusal of the chart's templates. AESM's codes are the names of its numbers.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from generated_part import ROOT, table, write_or_check

from confcom.aesm.error_code import AesmErrorCode, advice_for

SOURCE = ROOT / "src" / "confcom"
TEMPLATES = ROOT / "charts" / "confcom" / "templates"
REFUSAL = re.compile(r'include "confcom[.]refuse" \((?:concat \()?\(?list "([a-z-]+)"\s+(?:\(printf\s+)?(?:"([^"]+)")?')
"""A refusal's code and message, unless the message is a variable."""
KEYWORDS = ("error_code", "code")
"""Codes of errors; codes of findings, problems and checks."""


@dataclass(frozen=True, slots=True, order=True)
class Coded:
    """A code and its message: `…` is what is filled in, and a class has the first line of its docstring."""

    package: str
    code: str
    text: str


def main() -> int:
    return write_or_check({"codes.md": {"codes": codes_table()}})


def codes_table() -> str:
    found = sorted([*codes(), *aesm_codes(), *chart_codes()])
    told = {(one.package, one.code) for one in found if one.text}
    found = [one for one in found if one.text or (one.package, one.code) not in told]
    rows = dict.fromkeys((one.package, one.code, one.text.replace("|", "\\|") or "…") for one in found)
    first = {row[1]: row for row in reversed(rows)}
    anchors = {row: f'<a id="{code}"></a>' for code, row in first.items()}
    shown = ((row[0], f"{anchors.get(row, '')}`{row[1]}`", row[2]) for row in rows)
    return table(["package", "code", "message"], shown)


def aesm_codes() -> Iterator[Coded]:
    for number in [*AesmErrorCode, -1]:
        if number != AesmErrorCode.SUCCESS:
            advice = advice_for(number)
            yield Coded("aesm", advice.error_code, advice.meaning)


def codes() -> Iterator[Coded]:
    for path in sorted(SOURCE.rglob("*.py")):
        package = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        tree = ast.parse(path.read_text())
        texts = assigned_texts(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (code := code_given(node, texts)):
                yield Coded(package, code, message_of(node, texts))
            elif isinstance(node, ast.ClassDef) and (code := class_code(node)):
                first = (ast.get_docstring(node) or "").partition("\n")[0]
                yield Coded(package, code, first)


def chart_codes() -> Iterator[Coded]:
    for path in sorted(TEMPLATES.iterdir()):
        for code, text in REFUSAL.findall(path.read_text()):
            yield Coded("chart", code, re.sub("%[a-z]", "…", text))


def code_given(call: ast.Call, texts: list[tuple[int, str, str]]) -> str:
    """The code of a call: a literal, or a constant of the call's module; empty if the call has no code."""
    for keyword in call.keywords:
        match keyword:
            case ast.keyword(arg=name, value=ast.Constant(value=str(code))) if name in KEYWORDS:
                return code
            case ast.keyword(arg=name, value=ast.Name(id=constant)) if name in KEYWORDS and constant.isupper():
                return text_named(keyword.value, call.lineno, texts)
    return ""


def class_code(node: ast.ClassDef) -> str:
    """The code that a class of errors has for all its instances; empty if the class has no code."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="error_code")], value=ast.Constant(value=str(code))):
                return code
            case ast.AnnAssign(target=ast.Name(id="error_code"), value=ast.Constant(value=str(code))):
                return code
    return ""


def assigned_texts(tree: ast.Module) -> list[tuple[int, str, str]]:
    """Line, name and text of each assignment of a text to a name, in the file's order."""
    pairs = [
        (target, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    for target, value in pairs.copy():
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs += zip(target.elts, value.elts, strict=True)
    texts = ((one.lineno, one.id, text_of(value)) for one, value in pairs if isinstance(one, ast.Name))
    return sorted(one for one in texts if one[-1])


def message_of(call: ast.Call, texts: list[tuple[int, str, str]]) -> str:
    """The message of a call: its `what` or `text`, else its first positional argument that is text, or names one."""
    named = [one.value for one in call.keywords if one.arg in {"what", "text", "required"}]
    for argument in [*named, *call.args]:
        if shown := text_of(argument) or text_named(argument, call.lineno, texts):
            return shown
    return ""


def text_named(node: ast.expr, line: int, texts: list[tuple[int, str, str]]) -> str:
    """The text last assigned to a name before a line; for a constant, its text wherever it is assigned."""
    name = node.id if isinstance(node, ast.Name) else ""
    own = [text for at, other, text in texts if other == name and (at <= line or name.isupper())]
    return own[-1] if own else ""


def text_of(node: ast.expr) -> str:
    """A literal text, with `…` for each value that is filled in; empty if the node is no text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + (text_of(right) or "…")
        case ast.Subscript(value=text):
            return text_of(text)
        case ast.IfExp(body=body, orelse=other):
            return f"{text_of(body)} / {text_of(other)}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
