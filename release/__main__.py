"""`make release`: write the files of a release into dist/VERSION, the same bytes for the same commit and base."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError, ExitCode, SettingsError, shortened
from e2e.dockerfile import stages_of
from e2e.images import IMAGES, ROOT, build_all, table
from e2e.progress import say, timed
from e2e.source import Source, git
from release import checksums
from release.modules import check_modules
from release.packages import build_chart, build_packages, label_packages, write_digests
from release.provenance import statement
from release.sbom import image_sbom, wheel_sbom

STAND_IN = "stand-in-base"
"""Kind of the base in provenance and file names, if the images are on the Debian stand-in."""
PUBLISHED = "published-base"
SHOWN = 3
"""Files that an error names, since a changed module changes about 40."""


@dataclass(frozen=True, slots=True)
class Release:
    """What is built: a commit's files, on the base with this digest, or on the stand-in if there is none."""

    source: Source
    base: str

    @property
    def base_kind(self) -> str:
        return PUBLISHED if self.base else STAND_IN

    @property
    def suffix(self) -> str:
        return self.source.version if self.base else f"{self.source.version}-{STAND_IN}"

    def write(self, folder: Path, notes: str) -> None:
        """Write every file of the release but the signature."""
        with tempfile.TemporaryDirectory(prefix="release-") as scratch:
            stage, suffix = Path(scratch, "source"), self.suffix
            self.source.export(ROOT, stage)
            built = build_all(stage, self.source, self.base)
            write_digests(stage, built, self.source)
            if not self.base:
                label_packages(stage, self.source, STAND_IN)
            with timed("wheel, source archive and chart"):
                check_modules(built, build_packages(stage, folder, self.source))
                build_chart(stage, folder, self.source).rename(folder / f"confcom-chart-{suffix}.tgz")
            shutil.copytree(built.layout, folder / f"confcom-images-{suffix}")
            shutil.copyfile(stage / "requirements" / "wheel.lock", folder / f"confcom-{suffix}.lock")
            with timed("SBOMs"):
                (folder / f"confcom-{suffix}.cdx.json").write_bytes(wheel_sbom(ROOT, stage, self.source))
                for image in IMAGES:
                    shutil.copyfile(built.archive(image), folder / f"{image}-{suffix}.tar")
                    (folder / f"{image}-{suffix}.cdx.json").write_bytes(image_sbom(built, image, self.source))
            (folder / "RELEASE_NOTES.md").write_text(f"# confcom {suffix}\n\n{notes}\n\n```\n{table(built)}```\n")
            subjects = checksums.digests(folder)
            provenance = statement(stage, self.source, built, subjects, base_kind=self.base_kind)
            (folder / "provenance.json").write_bytes(provenance)
            (folder / checksums.NAME).write_text(checksums.text_of(checksums.digests(folder)))


def release_notes(changelog: str, version: str) -> str:
    """The section of a version in CHANGELOG.md, without its heading."""
    for section in changelog.split("\n## ")[1:]:
        heading, _, text = section.partition("\n")
        if heading.split(",")[0].strip() == version:
            return text.strip()
    raise SettingsError(
        f"CHANGELOG.md has no section {version}", error_code="version-unlisted", remedy="write what people get"
    )


def check_source(source: Source) -> None:
    """Raise SettingsError for a modified tree, and for a version that a tag gave to another commit."""
    if source.is_modified:
        raise SettingsError(
            "files are modified", error_code="modified", why=git(ROOT, "status", "--short"), remedy="commit them"
        )
    tag = f"v{source.version}"
    if git(ROOT, "tag", "--list", tag) and git(ROOT, "rev-list", "-1", tag) != source.revision:
        raise SettingsError(
            f"tag {tag} is on another commit", error_code="version-tagged", remedy="raise the version, or check it out"
        )


def check_promises() -> None:
    """Raise SettingsError if a promised name of Python changed, and the changelog does not name it."""
    command = [sys.executable, "scripts/api_changes.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    say(done.stdout.strip())
    if done.returncode:
        why = shortened(done.stderr) or "its list is above"
        raise SettingsError(
            "promised names changed", error_code="promises-changed", why=why, remedy="name them in CHANGELOG.md"
        )


def publish(made: Path, folder: Path) -> bool:
    """Move a release to its folder; return False if the folder already has the same bytes."""
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        made.chmod(0o755)
        shutil.move(made, folder)
        return True
    there, here = (checksums.digests(each) for each in (folder, made))
    if differ := sorted({name for name, _ in there.items() ^ here.items()}):
        why = f"{len(differ)} files differ, such as {', '.join(differ[-SHOWN:])}"
        raise SettingsError(f"{folder} has other bytes", error_code="release-differs", why=why, remedy="move it away")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="make release", description=__doc__.partition(": ")[2])
    parser.add_argument("--stand-in-base", action="store_true", help="a trial on Debian's Python; it is never signed")
    parser.add_argument("--key", type=Path, help="sign with this key of cosign; its password is in COSIGN_PASSWORD")
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="default: dist")
    options = parser.parse_args()
    try:
        source = Source.of(ROOT)
        check_source(source)
        check_promises()
        notes = release_notes((ROOT / "CHANGELOG.md").read_text(), source.version)
        if options.key and options.stand_in_base:
            raise SettingsError(
                "a trial on the stand-in is never signed", error_code="stand-in-signed", remedy="leave one option out"
            )
        if options.key:
            checksums.check_key(options.key)
        base = "" if options.stand_in_base else stages_of(ROOT / "images" / "Dockerfile")["base"].base
        release = Release(source, base)
        folder = options.folder / release.suffix
        with tempfile.TemporaryDirectory(dir=ROOT, prefix=".release-") as scratch:
            made = Path(scratch, release.suffix)
            made.mkdir()
            release.write(made, notes)
            say(f"{folder}: {'written' if publish(made, folder) else 'the same bytes are there'}")
        if options.key:
            checksums.sign(folder, options.key)
        sys.stdout.write((folder / checksums.NAME).read_text())
    except ConfcomError as error:
        say(f"{error.error_code}: {error}")
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
