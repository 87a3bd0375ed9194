"""The example manifests that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from confcom.errors import UnavailableError


def examples_folder() -> Path:
    """Return the directory of job.yaml and the other examples.

    Raises:
        UnavailableError: they are missing from this installation.
    """
    folder = Path(str(resources.files("confcom.playground") / "examples"))
    if not (folder / "job.yaml").is_file():
        raise UnavailableError(
            "the example manifests are missing",
            why=f"there is no {folder / 'job.yaml'}",
            remedy="install confcom from a wheel or a complete checkout",
        )
    return folder
