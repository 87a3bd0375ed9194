"""CycloneDX SBOMs of the wheel and of each image, without a random number and without the clock."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from e2e.cluster import tools
from e2e.images import Built
from e2e.source import Source
from release.packages import run

ENVIRONMENT = Path(".venv-release")
"""Environment of `requirements/release.lock`, beside the environment that runs this module."""


def wheel_sbom(checkout: Path, stage: Path, source: Source) -> bytes:
    """The packages of the wheel with all extras, with their hashes, from the lock."""
    program = checkout / ENVIRONMENT / "bin" / "cyclonedx-py"
    command = [str(program), "requirements", "--output-reproducible", "--short-PURLs", "--pyproject=pyproject.toml"]
    return run("cyclonedx-py", [*command, "requirements/wheel.lock"], cwd=stage, source=source)


def image_sbom(built: Built, image: str, source: Source) -> bytes:
    """The Debian and Python packages of an image; the serial number is derived from the image's digest."""
    syft = tools.build("syft") / "syft"
    options = ["--quiet", "--output=cyclonedx-json", f"--source-name={image}", f"--source-version={source.version}"]
    options += ["--select-catalogers=-file"]
    command = [str(syft), "scan", *options, f"oci-archive:{built.archive(image)}"]
    found = json.loads(run("syft", command, cwd=built.folder, source=source))
    found["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, built.digest(image))}"
    found["metadata"]["timestamp"] = source.created
    return json.dumps(found, indent=1).encode() + b"\n"
