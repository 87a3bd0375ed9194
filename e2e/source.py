"""The commit from which images and a release are built; every time in them is the commit's."""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from confcom.errors import SettingsError

VERSION_FILE = "src/confcom/__init__.py"
PLAIN, EXECUTABLE = 0o644, 0o755

MODIFIED = "-modified"
"""End of a revision whose files are not those of its commit."""


@dataclass(frozen=True, slots=True)
class Source:
    """`revision` is the commit's hash, with `MODIFIED` if files differ; `epoch` is its time, in Unix seconds."""

    revision: str
    epoch: int
    version: str

    @classmethod
    def of(cls, checkout: Path) -> Source:
        found = cls.of_commit(checkout, "HEAD")
        changed = MODIFIED if git(checkout, "status", "--porcelain") else ""
        return cls(found.revision + changed, found.epoch, _version((checkout / VERSION_FILE).read_text()))

    @classmethod
    def of_commit(cls, checkout: Path, commit: str) -> Source:
        revision, epoch = git(checkout, "log", "-1", "--format=%H %ct", commit, "--").split()
        return cls(revision, int(epoch), _version(git(checkout, "show", f"{revision}:{VERSION_FILE}")))

    def export(self, checkout: Path, folder: Path) -> None:
        """Write the commit's files with the commit's time and fixed modes, since helm packs both."""
        archive = folder.with_suffix(".tar")
        git(checkout, "-c", "tar.umask=0022", "archive", f"--output={archive}", self.revision)
        with tarfile.open(archive) as files:
            files.extractall(folder, filter="tar")
        archive.unlink()
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(EXECUTABLE if path.is_dir() or path.stat().st_mode & 0o100 else PLAIN)
                os.utime(path, (self.epoch, self.epoch))

    @property
    def created(self) -> str:
        return datetime.fromtimestamp(self.epoch, UTC).isoformat().replace("+00:00", "Z")

    @property
    def is_modified(self) -> bool:
        return self.revision.endswith(MODIFIED)


def git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise _no_commit(checkout, str(error)) from error
    if done.returncode:
        raise _no_commit(checkout, " ".join(done.stderr.split()))
    return done.stdout.strip()


def _version(text: str) -> str:
    if found := re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE):
        return found[1]
    raise SettingsError(
        f"{VERSION_FILE} has no version", error_code="version-missing", remedy="restore the line with __version__"
    )


def _no_commit(checkout: Path, why: str) -> SettingsError:
    return SettingsError(
        f"{checkout} is not a commit of git", error_code="not-a-commit", why=why, remedy="build in a clone of git"
    )
