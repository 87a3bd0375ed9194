"""Build the images of images/Dockerfile without docker, a daemon or a registry, for a cluster on this machine.

The Dockerfile is the one that everybody builds. Two things are done in its surroundings, because a test machine may
reach neither a registry of images nor, from inside a build, the index of packages:

* its base, `python:3.11-slim` by digest, is replaced (`--build-arg BASE=...`) by a local stand-in: Debian 12 with its
  own Python 3.11, made by mmdebstrap;
* packages are downloaded beforehand, by the same hashed locks, and mounted into the build.

buildah runs with chroot isolation and a configuration of its own in a mount namespace of its own, so nothing else on
the machine sees its storage or its mounts. Results are kept by content: a second call with nothing changed builds
nothing. Security updates of Debian reach a base only when it is made anew: remove the folder for that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from confcom.errors import ConfcomError, ExitCode, UnavailableError
from e2e import images_workshop
from e2e.images_workshop import EPOCH, IMAGES, PROGRAMS, ROOT, Workshop, content_hash, keep_newest, references
from e2e.packages import install
from e2e.progress import alone, say

DOCKERFILE = ROOT / "images" / "Dockerfile"


def default_folder() -> Path:
    """Where results are kept: outside the checkout, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confcom" / "images"


def build_all() -> dict[str, Path]:
    """The OCI archive of each of `IMAGES`, built if it was not; the names inside are `references`."""
    if os.geteuid():
        raise UnavailableError(
            "images cannot be built", why="buildah and mmdebstrap need root here", remedy="run it as root"
        )
    folder = default_folder()
    with alone(folder / "lock", f"another build in {folder}"), contextlib.ExitStack() as stack:
        for leftover in folder.glob("run-*"):  # of a build that was killed
            shutil.rmtree(leftover)
        (folder / "log.txt").write_bytes(b"")
        scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix="run-"))
        workshop = Workshop(folder=folder, scratch=Path(scratch), context=Path(scratch) / "context")
        _snapshot(workshop.context)
        finished = folder / "archives" / _content_key(workshop.context)
        if finished.is_dir():
            os.utime(finished)
            say(f"images: nothing changed: {finished}")
        else:
            install(PROGRAMS, purpose="building images")
            made = workshop.build(folder / "storage" / workshop.base_key, "built")
            finished.parent.mkdir(exist_ok=True)
            made.rename(finished)
            keep_newest(finished.parent)
            keep_newest(folder / "storage", 1)
    return {image: finished / f"{image}.tar" for image in IMAGES}


def _snapshot(context: Path) -> None:
    context.mkdir()
    ignore = ROOT / ".dockerignore"
    for line in ignore.read_text().splitlines():
        if line.startswith("!"):
            source = ROOT / line[1:]
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, context / source.name, symlinks=True, ignore=skip)
            else:
                shutil.copy2(source, context)
    shutil.copy2(ignore, context)
    shutil.copy2(DOCKERFILE, context)


def _content_key(context: Path) -> str:
    parts = [Path(module).read_bytes() for module in (__file__, images_workshop.__file__)] + [EPOCH.encode()]
    for path in sorted(context.rglob("*")):
        if path.is_symlink() or path.is_file():
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            parts += [path.relative_to(context).as_posix().encode(), content]
    return content_hash(*parts)


def main() -> int:
    try:
        archives = build_all()
    except ConfcomError as error:
        say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    for image, archive in archives.items():
        names = ", ".join(references(image))
        sys.stdout.write(f"{archive} ({archive.stat().st_size / 1e6:.1f} MB): {names}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
