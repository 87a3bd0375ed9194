"""Checks expected errors by class and code. The wording is fixed only in docs/reference/codes.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confcom.errors import ConfcomError

if TYPE_CHECKING:
    import pytest


@contextmanager
def raises(
    code: str, kind: type[ConfcomError] = ConfcomError, *parts: str, naming: str = ""
) -> Iterator[pytest.ExceptionInfo[ConfcomError]]:
    """Expect an error of this class with this `error_code`.

    `parts` names parts that the error must have (`why`, `remedy`). Its `what` must contain the text `naming`.
    """
    import pytest

    with pytest.raises(kind) as caught:
        yield caught
    assert caught.value.error_code == code
    assert naming in caught.value.what
    require_style(caught.value, *parts)


def require_style(error: ConfcomError, *parts: str) -> None:
    for part in ("what", *parts):
        assert getattr(error, part)
        assert not getattr(error, part).endswith(".")
