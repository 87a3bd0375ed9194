"""Every Python program in the pages passes mypy --strict unchanged and uses only public names."""

import ast
import importlib
import re

import pytest

from testkit.documentation import ROOT, files, text_of
from testkit.programs import run_python

PROGRAMS = files("python")
MODULES = re.findall(r"^## `(confcom[.\w]*)`$", text_of("docs/reference/python.md"), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy_takes_every_program(tmp_path):
    for name, program in PROGRAMS.items():
        (tmp_path / name).write_text(program)
    done = run_python("-m", "mypy", *sorted(tmp_path.iterdir()), cwd=ROOT, timeout=280)
    assert done.stdout == f"Success: no issues found in {len(PROGRAMS)} source files\n", done.stdout + done.stderr


def imported(program):
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            yield str(node.module), {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            yield from ((alias.name, set()) for alias in node.names)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_uses_public_names_only(name):
    found = list(imported(PROGRAMS[name]))
    ours = [(module, names) for module, names in found if module.startswith("confcom")]
    assert ours or "e2e.cluster" in PROGRAMS[name] or any(f"{module}.py" in PROGRAMS for module, _ in found)
    for module, names in ours:
        assert module in MODULES
        assert names <= set(importlib.import_module(module).__all__)
