"""SHA256SUMS of a release's folder, in the form that `sha256sum --check` reads, and its signature by cosign."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from confcom.errors import ConfcomError, SettingsError, shortened
from e2e.cluster import tools

NAME = "SHA256SUMS"
SIGNATURE = f"{NAME}.sigstore.json"
"""Signature of the file `NAME`. It is the only file of a release that differs from build to build."""
OFFLINE = ("--tlog-upload=false", "--use-signing-config=false")
"""Flags of cosign for signing with a key, without the transparency log and without a network."""
BLOCK = 1 << 20


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file but the sums and their signature, keyed by path in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in {NAME, SIGNATURE})
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def text_of(found: Mapping[str, str]) -> str:
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(found.items()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sign(folder: Path, key: Path) -> None:
    """Sign the sums with a key of cosign, whose password is in the variable COSIGN_PASSWORD."""
    _cosign(key, folder / NAME, folder / SIGNATURE)


def check_key(key: Path) -> None:
    """Raise SettingsError if a key cannot sign."""
    with tempfile.TemporaryDirectory() as scratch:
        blob = Path(scratch, "blob")
        blob.write_bytes(b"")
        try:
            _cosign(key, blob, Path(scratch, "signature"))
        except ConfcomError as error:
            raise SettingsError(
                f"{key} cannot sign",
                error_code="key-unusable",
                why=error.why,
                remedy="name a key of cosign, and its password",
            ) from error


def _cosign(key: Path, blob: Path, signature: Path) -> None:
    cosign = tools.build("cosign") / "cosign"
    command = [str(cosign), "sign-blob", "--yes", f"--key={key}", *OFFLINE, f"--bundle={signature}", str(blob)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfcomError("cosign could not sign", why=shortened(done.stderr), remedy="see cosign's message")
