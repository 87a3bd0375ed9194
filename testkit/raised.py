"""Errors in tests: by class, code and style. Their words are held by docs/reference/codes.md alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confcom.errors import ConfcomError

if TYPE_CHECKING:
    import pytest

TERMS = "AESM|API|CPUSVN|DCAP|DER|ECDSA|EPC|EPID|Intel|JSON|Linux|Open Enclave|P-256|PCCS|PCE|PEM|QE|SDK|SGX|TDX|X.509"
"""Always written so; other words with a capital letter at a beginning are names of fields."""
BEGINNING = re.compile(rf"[^A-Z]|$|(?:{TERMS}|CPUID|TCB|PCK|MR|CONFCOM_)")
MISSPELT = re.compile(rf"(?<![\w./=`'-])(?:{TERMS.lower()})(?![\w./=-])")


@contextmanager
def raises(
    code: str, kind: type[ConfcomError] = ConfcomError, *parts: str, naming: str = ""
) -> Iterator[pytest.ExceptionInfo[ConfcomError]]:
    """Expect an error of this kind, with this `error_code`, in the house's style.

    `parts` are `why` and `remedy`, if it must have them; `naming` is in its `what`.
    """
    import pytest

    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.error_code == code
    assert naming in caught.value.what
    require_style(caught.value, *parts)


def require_style(error: ConfcomError, *parts: str) -> None:
    """Require clauses: no capital letter at the beginning, no full stop at the end, terms in their own spelling."""
    quoted = error.why in str(error.__cause__)  # of the system or of a library, in its own style
    told = [error.what, error.remedy] if quoted else [error.what, error.why, error.remedy]
    assert all(getattr(error, part) for part in ("what", *parts))
    for text in told:
        assert BEGINNING.match(text)
        assert not text.endswith(".")
        assert not MISSPELT.search(text)
