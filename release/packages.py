"""The wheel, the source archive and the chart's package of an exported commit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

import confcom
from confcom.errors import ConfcomError, shortened
from e2e.cluster import tools
from e2e.images import REGISTRY, Built, reference
from e2e.source import Source

CHART = Path("charts/confcom")
RELEASED = ("device-plugin", "quote-helper", "controller")
"""Images that the chart names."""


def write_digests(stage: Path, built: Built, source: Source) -> None:
    """Write the images' digests, and the registry if the project has one, into an exported chart."""
    values = stage / CHART / "values.yaml"
    digests = {f"confcom/{image}": built.digest(image) for image in RELEASED}
    flow = yaml.safe_dump(digests, default_flow_style=True, width=sys.maxsize).strip()
    _replace(values, "  digests: {}", f"  digests: {flow}")
    if confcom.IMAGE_REGISTRY:
        _replace(values, '  registry: ""', f"  registry: {confcom.IMAGE_REGISTRY}")
    description = stage / CHART / "Chart.yaml"
    annotation = ["annotations:", "  artifacthub.io/images: |"]
    for image in RELEASED:
        name = reference(image, source.version, confcom.IMAGE_REGISTRY or REGISTRY)
        annotation += [f"    - name: {image}", f"      image: {name}@{built.digest(image)}"]
    _replace(description, annotation[0], "\n".join(annotation))
    for changed in (values, description):
        os.utime(changed, (source.epoch, source.epoch))


def label_packages(stage: Path, source: Source, label: str) -> None:
    """Give an exported commit's packages a local version (PEP 440), which public package indexes refuse.

    The modules keep their own version, since they are the images' modules byte by byte.
    """
    local = label.replace("-", ".")  # the normal form
    _replace(stage / "pyproject.toml", 'dynamic = ["version"]', f'version = "{source.version}+{local}"')


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if text.count(f"\n{old}\n") != 1:
        raise ConfcomError(f"{path.name} does not have one line `{old}`", remedy="restore this line")
    path.write_text(text.replace(f"\n{old}\n", f"\n{new}\n"))


def build_packages(stage: Path, folder: Path, source: Source) -> Path:
    """Write the wheel and the source archive; return the wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
    run("hatchling", command, cwd=stage, source=source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_chart(stage: Path, folder: Path, source: Source) -> Path:
    """Write the chart's package; helm keeps the exported files' modes and times."""
    helm = tools.build("helm") / "helm"
    run("helm", [str(helm), "package", str(stage / CHART), "--destination", str(folder)], cwd=stage, source=source)
    return folder / f"confcom-{source.version}.tgz"


def run(program: str, command: Sequence[str], *, cwd: Path, source: Source) -> bytes:
    """Run a program with the commit's time; return its output."""
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(source.epoch)}
    done = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, check=False)
    if done.returncode:
        why = shortened(done.stderr.decode(errors="replace") or done.stdout.decode(errors="replace"))
        raise ConfcomError(f"{program} ended with {done.returncode}", why=why, remedy=f"run it by hand: {command}")
    return done.stdout
