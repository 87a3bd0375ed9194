"""Every Python program in the pages passes mypy --strict unchanged and uses only public names."""

import ast
import importlib
import re

import pytest

from testkit.documentation import ROOT, files, text_of
from testkit.programs import run_python
from testkit.web_service import for_both

PROGRAMS = files("python")
MODULES = re.findall(r"^## `(confcom[.\w]*)`$", text_of("docs/reference/python.md"), re.MULTILINE)


CLAIMS = """
from typing import Any, assert_type

from confcom.collateral import INTEL_PCS
from confcom.service import QuoteVerifier
from confcom.verify import Policy, SgxClaims, SgxPolicy, TdxClaims, TdxPolicy, TeeType, Verdict, read_policy, verify
from confcom.verify.ratls import verify_certificate


async def check(sgx: SgxPolicy, tdx: TdxPolicy, any_policy: Policy) -> None:
    assert_type(verify(b"", sgx, None), Verdict[SgxClaims])
    assert_type(verify(b"", tdx, None), Verdict[TdxClaims])
    assert_type(verify(b"", any_policy, None), Verdict[Any])
    assert_type(verify_certificate(b"", sgx, None), Verdict[SgxClaims])
    assert_type(verify_certificate(b"", tdx, None), Verdict[TdxClaims])
    assert_type(await QuoteVerifier(sgx, INTEL_PCS).verify(b""), Verdict[SgxClaims])
    assert_type(await QuoteVerifier(tdx, INTEL_PCS).verify(b""), Verdict[TdxClaims])
    assert_type(read_policy("p"), SgxPolicy)
    assert_type(read_policy("p", tee=TeeType.TDX), TdxPolicy)
    assert_type(read_policy("p", tee=None), SgxPolicy | TdxPolicy)
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy_takes_every_program(tmp_path):
    """Also a program that says which claims a policy's verdict has, and the programs for both TEEs."""
    programs = PROGRAMS | {"claims_of_policies.py": CLAIMS} | {"decide_both.py": for_both(PROGRAMS["decide.py"])}
    for name, program in programs.items():
        (tmp_path / name).write_text(program)
    done = run_python("-m", "mypy", *sorted(tmp_path.glob("*.py")), cwd=ROOT, timeout=280)
    assert done.stdout == f"Success: no issues found in {len(programs)} source files\n", done.stdout + done.stderr


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
