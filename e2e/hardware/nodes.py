"""Imitated parts of a node with SGX hardware: driver, size of the EPC, device nodes, and stand-in images.

The parts are made in the node's private /dev and over its /sys; a reboot of the node removes them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confcom.quote_provider.state_directory import ROOT_FOLDER, open_or_create_platform
from confcom.sgx.epc_from_cpuid import MIB
from e2e.add_on import ROOT
from e2e.cluster import Cluster, Node
from e2e.hardware import aesm_service
from e2e.other_image import Changes, digest_of, import_other

SGX_PRV_GROUP = 107
"""ID of the provision device's group; each distribution chooses its own number."""

_FOLDER = "/run/sgx-hardware"
_MAKE = f"""set -e
mkdir -p {_FOLDER}/misc/sgx_enclave {_FOLDER}/misc/sgx_provision {_FOLDER}/node
cp --archive /sys/devices/system/node/. {_FOLDER}/node 2>/dev/null || true
mkdir -p {_FOLDER}/node/node0/x86
echo "$1" > {_FOLDER}/node/node0/x86/sgx_total_bytes
mount --bind {_FOLDER}/misc /sys/class/misc
mount --bind {_FOLDER}/node /sys/devices/system/node
mknod --mode=0666 /dev/sgx_enclave c 1 3
mknod --mode=0660 /dev/sgx_provision c 1 3
chgrp {SGX_PRV_GROUP} /dev/sgx_provision
"""
"""Script that makes SGX devices like /dev/null, which every container's cgroup rules let it open. cp ends
with an error, because some files of sysfs cannot be read."""
_REMOVE = f"""
umount /sys/class/misc /sys/devices/system/node
rm -rf /dev/sgx_enclave /dev/sgx_provision {_FOLDER}
"""
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
"""Command without the variable for the platform, because the simulated workload refuses hardware."""


@dataclass(frozen=True, slots=True)
class AesmdImages:
    """Images of two stand-ins on all nodes of a cluster, as digests of `REPOSITORY`.

    The certificate chains of the stand-ins' quotes end in `root`, which relying parties trust.
    """

    first: str
    second: str
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

        def made() -> str:
            changes = Changes(files=files, entrypoint=_AESM_SERVICE)
            return digest_of(import_other(cluster, folder, "quote-helper", repository=REPOSITORY, changes=changes))

        return cls(first=made(), second=made(), root=(trust / "root.pem").read_text(), trust=trust)


def import_workload(cluster: Cluster, folder: Path) -> str:
    """Import a sample workload image that does not set the platform; return the image's name."""
    return import_other(cluster, folder, "sample-workload", changes=Changes(entrypoint=_UNTOLD))


@contextmanager
def sgx_hardware(nodes: Sequence[Node], *, epc_mib: int) -> Iterator[None]:
    try:
        for node in nodes:
            node.run(["sh", "-c", _MAKE, "sh", str(epc_mib * MIB)])
        yield
    finally:
        for node in nodes:
            node.run(["sh", "-c", _REMOVE], check=False)
