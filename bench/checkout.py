"""Code that is measured: this checkout's daemons, and those of another checkout beside them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import SettingsError

THIS, OTHER = "this one", "the other"
"""Names of the two sides in tables and JSON."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """Where daemons are started from."""

    python: str
    source: Path

    @classmethod
    def this(cls) -> Checkout:
        return cls(sys.executable, Path(__file__).resolve().parent.parent / "src")

    @classmethod
    def at(cls, root: Path) -> Checkout:
        """Another directory, with libraries of its own."""
        python = root.resolve() / ".venv" / "bin" / "python"
        if not python.exists():
            raise SettingsError(
                f"{root} cannot be measured", why=f"there is no {python}", remedy="run `make setup` in that checkout"
            )
        return cls(str(python), root.resolve() / "src")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.source)}
