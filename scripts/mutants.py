"""Change one line of the source at a time, and see whether a test notices.

    python scripts/mutants.py draw --seed 7 --count 100 --beside ../before drawn.json
    python scripts/mutants.py run drawn.json results.json

`draw` takes only lines that both checkouts have, so that both run the same changes, spread equally over modules.
`run` changes a copy of this checkout, runs the tests that have the module's name and then those of the changed package
until one fails, and continues where it stopped before. Survivors are listed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path("src/confcom")
TIMEOUT_SECONDS = 600
"""Seconds for the tests of one change; a change that makes the tests hang counts as noticed."""
TESTS = {
    "addon": ("addon", "cli", "chart"),
    "aesm": ("aesm", "client", "replay", "quote_helper"),
    "client": ("client", "relay"),
    "cli": ("cli", "client", "verify", "docs"),
    "daemon": ("daemon", "quote_helper", "device_plugin", "controller"),
    "demo": ("demo",),
    "errors.py": ("errors", "cli"),
    "kubelet_api": ("kubelet_api", "device_plugin", "demo"),
    "kubernetes": ("kubernetes", "addon", "controller", "device_plugin"),
    "quote_helper": ("quote_helper", "replay"),
    "quote_provider": ("quote_provider", "quote_helper"),
    "relay": ("relay", "quote_helper"),
    "sample_workload": ("client", "demo"),
    "sgx": ("sgx", "verify", "simulation", "client", "device_plugin"),
    "simulation": ("simulation", "quote_provider", "verify"),
    "verify": ("verify",),
}
"""Folders of tests, keyed by package, nearest first; another package has the folder of its own name."""


def sites(text: str) -> Iterator[tuple[int, str, int]]:
    """Every change of a module: its line, its kind, and the position of its node."""
    module = ast.parse(text)
    skipped = set(_texts_and_types(module))
    for position, node in enumerate(_nodes(module)):
        change = None if id(node) in skipped else _change(node)
        if change is not None:
            yield node.lineno, change[0], position


def changed(text: str, position: int) -> str:
    """The module's source, with the node at this position changed."""
    module = ast.parse(text)
    node = _nodes(module)[position]
    change = _change(node)
    if change is not None:
        _replace(module, node, change[1])
    return ast.unparse(ast.fix_missing_locations(module)) + "\n"


def _nodes(module: ast.Module) -> list[ast.expr | ast.stmt]:
    return [node for node in ast.walk(module) if isinstance(node, ast.expr | ast.stmt)]


def _texts_and_types(module: ast.Module) -> Iterator[int]:
    """Nodes without effect on behaviour: annotations, and statements that only hold a text."""
    for node in ast.walk(module):
        found = [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.append(node)
        for one in found:
            yield from (id(inner) for inner in ast.walk(one)) if isinstance(one, ast.AST) else ()


OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


def _change(node: ast.AST) -> tuple[str, ast.AST] | None:
    result: tuple[str, ast.AST] | None = None
    match node:
        case ast.Compare(left=left, ops=[first, *rest], comparators=right):
            result = "comparison", ast.Compare(left, [OPPOSITES[type(first)](), *rest], right)
        case ast.BoolOp(op=op, values=values):
            result = "and/or", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            result = "not", operand
        case ast.Constant(value=bool() as value):
            result = "boolean", ast.Constant(not value)
        case ast.Constant(value=int() as value):
            result = "number", ast.Constant(value + 1)
        case ast.BinOp(left=left, op=(ast.Add() | ast.Sub()) as op, right=right):
            result = "sum", ast.BinOp(left, ast.Sub() if isinstance(op, ast.Add) else ast.Add(), right)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            result = "result", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise():
            result = "statement", ast.Pass()
    return result


def _replace(module: ast.Module, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(module):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and old in value:
                value[value.index(old)] = new


def draw(seed: int, count: int, beside: Path, packages: list[str]) -> list[dict[str, object]]:
    """Choose changes of lines that are the same in both checkouts, equally over modules."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, protects nothing
    folders = [ROOT / SOURCE / package for package in packages or [""]]
    found_in = [path.relative_to(ROOT) for folder in folders for path in folder.rglob("*.py")]
    modules = sorted(path for path in found_in if "_pb2" not in path.name)
    found: dict[Path, list[dict[str, object]]] = {}
    for path in modules:
        if not (beside / path).is_file():
            continue
        ours, theirs = (_by_text((root / path).read_text()) for root in (ROOT, beside))
        common = [key for key in ours if key in theirs]
        if common:
            found[path] = [dict(zip(("line", "nth", "kind"), key, strict=True)) | {"file": str(path)} for key in common]
    drawn: list[dict[str, object]] = []
    while len(drawn) < count and found:
        for path in chance.sample(sorted(found), len(found)):
            if len(drawn) < count:
                drawn.append(found[path].pop(chance.randrange(len(found[path]))))
            if not found[path]:
                del found[path]
    return drawn


def _by_text(text: str) -> dict[tuple[str, int, str], int]:
    """Positions of changes by their line's text, how many of that text and kind came before, and their kind."""
    lines = text.splitlines()
    result: dict[tuple[str, int, str], int] = {}
    for number, kind, position in sites(text):
        line, nth = lines[number - 1].strip(), 0
        while (line, nth, kind) in result:
            nth += 1
        result[(line, nth, kind)] = position
    return result


def run(drawn: list[dict[str, object]], results: Path, workers: int) -> None:
    """Run the tests of each change that has no result yet, in a copy of this checkout."""
    done = json.loads(results.read_text()) if results.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv*", "*_cache", "results")
        )
        for change in drawn[len(done) :]:
            path = tree / str(change["file"])
            text = path.read_text()
            key = (str(change["line"]), int(str(change["nth"])), str(change["kind"]))
            path.write_text(changed(text, _by_text(text)[key]))
            verdict = _tests_notice(tree, str(change["file"]), workers)
            path.write_text(text)
            done.append(change | {"verdict": verdict})
            results.write_text(json.dumps(done, indent=1) + "\n")
            print(f"{len(done):4} {verdict:9} {change['file']}: {change['kind']}: {change['line']}", flush=True)
    lived = [one for one in done if one["verdict"] == "survived"]
    print(f"{len(lived)} of {len(done)} survived")


def _tests_notice(tree: Path, file: str, workers: int) -> str:
    package = Path(file).relative_to(SOURCE).parts[0]
    named = (tree / "tests" / package).rglob(f"test_{Path(file).stem}*.py")
    nearest = sorted(str(path.relative_to(tree)) for path in named)
    wanted = (*TESTS.get(package, (package,)), "house")
    folders = [f"tests/{name}" for name in wanted if (tree / "tests" / name).is_dir()]
    options = ["-x", "-q", "--no-header", f"--numprocesses={workers}", "--dist=loadfile", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    for chosen in ([nearest] if nearest else []) + [[folder] for folder in folders]:
        command = [sys.executable, "-m", "pytest", *options, *chosen]
        try:
            result = subprocess.run(
                command, cwd=tree, env=environment, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return "hung"
        if result.returncode:
            return "noticed"
    return "survived"


def main() -> None:
    """Parse the command line, and draw changes or run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="choose changes")
    drawing.add_argument("--seed", type=int, required=True)
    drawing.add_argument("--count", type=int, default=100)
    drawing.add_argument("--beside", type=Path, default=ROOT, help="another checkout that has the lines too")
    drawing.add_argument("--packages", nargs="+", default=[], help="default: all")
    drawing.add_argument("file", type=Path)
    running = commands.add_parser("run", help="run the tests of each change")
    running.add_argument("--workers", type=int, default=2)
    running.add_argument("file", type=Path)
    running.add_argument("results", type=Path)
    options = parser.parse_args()
    if options.command == "draw":
        changes = draw(options.seed, options.count, options.beside, options.packages)
        options.file.write_text(json.dumps(changes, indent=1) + "\n")
        print(f"seed {options.seed}: {len(changes)} changes in {len({one['file'] for one in changes})} modules")
    else:
        run(json.loads(options.file.read_text()), options.results, options.workers)


if __name__ == "__main__":
    main()
