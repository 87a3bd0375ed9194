"""The Python modules in a release's images, which must be those of its wheel, byte by byte."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

from confcom.errors import ConfcomError
from e2e.images import IMAGES, Built

PACKAGE = "confcom/"
CHART = "confcom/addon/chart/"
"""The wheel's chart names the images by digest, so no image can contain this chart."""
INSTALLED = re.compile(r"opt/confcom/lib/python3\.\d+/site-packages/(confcom/.+)")
"""Path of a file of the package in an image's layer."""


def check_modules(built: Built, wheel: Path) -> None:
    """Raise ConfcomError if the package in an image is not the package in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(PACKAGE) and not name.startswith(CHART)]
        released = {name: archive.read(name) for name in names}
    layers = {layer: _files(layer) for layer in {layer for image in IMAGES for layer in built.layers(image)}}
    for image in IMAGES:
        installed = {name: data for layer in built.layers(image) for name, data in layers[layer].items()}
        if differ := sorted({name for name, _ in installed.items() ^ released.items()}):
            raise ConfcomError(
                f"{image} has other modules",
                error_code="modules-differ",
                why=", ".join(differ),
                remedy="build it again",
            )


def _files(layer: Path) -> dict[str, bytes]:
    """The files of the package in a layer."""
    found = {}
    with tarfile.open(layer) as files:
        for file in files:
            if (installed := INSTALLED.fullmatch(file.name)) and (content := files.extractfile(file)):
                found[installed[1]] = content.read()
    return found
