"""Export of a simulated platform as files for relying parties: root, root's fingerprint, and collateral."""

from datetime import datetime
from pathlib import Path

from confcom.atomic_file import atomic_file
from confcom.errors import SettingsError, writing
from confcom.quote_provider.state_directory import ROOT_FOLDER
from confcom.sgx.tee_type import TeeType
from confcom.simulation.collateral_staging import Staging
from confcom.simulation.platform import SimulatedPlatform

ROOT_FILE = "root.pem"
FINGERPRINT_FILE = "root.sha256"
COLLATERAL_DIRECTORY = "collateral"


def export_platform(
    platform: SimulatedPlatform,
    out_dir: Path,
    now: datetime,
    *,
    staging: Staging = Staging.NONE,
    early: bool = False,
    tee: TeeType = TeeType.SGX,
) -> tuple[Path, ...]:
    """Write root, fingerprint and collateral, without secrets; return their paths, the root's path first.

    A second export renews the collateral in place and replaces each file atomically.
    """
    root = platform.pki.root.pem
    files = {ROOT_FILE: root, FINGERPRINT_FILE: f"{platform.root_fingerprint}\n".encode()}
    for name, content in platform.collateral(now, staging=staging, early=early, tee=tee).to_files().items():
        files[f"{COLLATERAL_DIRECTORY}/{name}"] = content
    with writing(f"the simulated platform cannot be exported to {out_dir}", error_code="export-not-writable"):
        _check_out_dir(out_dir, root)
        (out_dir / COLLATERAL_DIRECTORY).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with atomic_file(out_dir / name, mode=0o644) as file:
                file.write(content)
    return tuple(out_dir / name for name in files)


def _check_out_dir(out_dir: Path, root: bytes) -> None:
    if (out_dir / ROOT_FOLDER).exists():
        raise SettingsError(
            f"{out_dir} is a state directory",
            error_code="export-into-state-directory",
            why="it contains a platform's secret, and exported files are meant to be published",
            remedy="export to another directory",
        )
    existing = out_dir / ROOT_FILE
    if existing.exists() and not (existing.is_file() and existing.read_bytes() == root):
        raise SettingsError(
            f"{existing} is the root of another platform",
            error_code="export-over-another-root",
            why="relying parties that trust this root would lose the file",
            remedy="export to another directory, or remove that one first",
        )
