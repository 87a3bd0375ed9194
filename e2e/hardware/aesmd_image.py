"""Images for nodes that look like hardware: the stand-in for Intel's aesmd, and the sample workload.

They are made of the images that are built, which stay as they are.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from confcom.quote_provider.state_directory import ROOT_FOLDER, open_or_create_platform
from e2e.add_on import ROOT
from e2e.cluster import Cluster
from e2e.hardware import aesm_service
from e2e.other_image import Changes, digest_of, import_other

REPOSITORY = "confcom/aesmd"
_MODULES = (
    "testkit/__init__.py",
    "testkit/stub_aesmd.py",
    "e2e/__init__.py",
    "e2e/hardware/__init__.py",
    "e2e/hardware/aesm_service.py",
)
_ENV, _PYTHON = "/usr/bin/env", "/opt/confcom/bin/python"
_AESM_SERVICE = (_ENV, f"PYTHONPATH={aesm_service.PLACE}", _PYTHON, "-m", "e2e.hardware.aesm_service")
_UNTOLD = (_ENV, "--unset=CONFCOM_SGX_PLATFORM", _PYTHON, "-m", "confcom.sample_workload")
"""The sample workload refuses hardware, on which its simulated enclave could get no quote."""


@dataclass(frozen=True, slots=True)
class AesmdImages:
    """The stand-ins on all nodes of a cluster, as digests of `REPOSITORY`.

    `stub` is the one that can be told to fail; the chains of their quotes end in `root`, which relying parties trust.
    """

    helper: str
    other_helper: str
    stub: str
    root: str
    trust: Path

    @classmethod
    def import_into(cls, cluster: Cluster, folder: Path) -> AesmdImages:
        platform, trust = folder / aesm_service.PLATFORM, folder / "trust"
        files = {str(aesm_service.PLACE / module): (ROOT / module).read_bytes() for module in _MODULES}
        for name in (aesm_service.PLATFORM, aesm_service.OTHER_PLATFORM):
            open_or_create_platform(folder / name)
            for value in (folder / name / ROOT_FOLDER).iterdir():
                files[str(aesm_service.PLACE / name / ROOT_FOLDER / value.name)] = value.read_bytes()
        export = ["-m", "confcom", "simulation", "export", f"--state-dir={platform}", str(trust)]
        subprocess.run([sys.executable, *export], check=True, capture_output=True)

        def made(kind: str) -> str:
            changes = Changes(files=files, entrypoint=(*_AESM_SERVICE, kind))
            return digest_of(import_other(cluster, folder, "quote-helper", repository=REPOSITORY, changes=changes))

        root = (trust / "root.pem").read_text()
        return cls(helper=made("helper"), other_helper=made("helper"), stub=made("stub"), root=root, trust=trust)


def import_workload(cluster: Cluster, folder: Path) -> str:
    """Import a sample workload that is not told the platform; return its image's name."""
    return import_other(cluster, folder, "sample-workload", changes=Changes(entrypoint=_UNTOLD))
