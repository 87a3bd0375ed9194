"""Build the images of images/Dockerfile without docker, a daemon or a registry, for a cluster on this machine.

A test machine may reach no registry of images, and a build on it may reach no index of packages. So the base
`python:3.11-slim` is replaced (`--build-arg BASE=...`) by a Debian 12 that mmdebstrap makes, with its Python.
The packages are downloaded beforehand, from the same hashed lock files. Results are kept, keyed by content. A
base gets Debian's security updates only when it is made anew; to force this, remove the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import confcom
from confcom.errors import ConfcomError, ExitCode, UnavailableError
from e2e.packages import install
from e2e.progress import alone, say, timed

ROOT = Path(__file__).resolve().parent.parent

IMAGES = ("device-plugin", "quote-helper", "controller", "sample-workload")
"""Targets of the Dockerfile; the names of the images end with them."""

LOCKS = ("build.lock", "controller.lock", "daemon.lock")
"""Lock files in requirements/ that the Dockerfile installs."""

BASE = "localhost/confcom-base"
"""The stand-in for the published base, which the Dockerfile names by a digest that a local image cannot have."""

REGISTRY = "registry.test"
"""Beginning of the images' names. Nobody can own a `.test` host (RFC 6761) and publish other images there."""

CHART_REGISTRY = f"image.registry={REGISTRY}"
"""The registry as a value for the chart."""

EPOCH = "1767225600"
"""The same modification time for every file in the images: 1 January 2026 (see reproducible-builds.org)."""

PROGRAMS = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
"""Programs that are not on every Linux, and their packages."""

DEBIAN_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
"""File with a Debian 12 machine's package mirrors; on other machines, mmdebstrap uses its default mirrors."""

CLEAN = """set -e; cd "$1"
: > etc/resolv.conf; : > etc/hostname
rm -rf etc/apt/sources.list etc/apt/sources.list.d/* root/.cache
ln -s /usr/bin/python3 usr/local/bin/python3; ln -s python3 usr/local/bin/python
"""
"""Script that removes files of this machine, and puts Python where the published image has it."""

SUITE = "bookworm"
"""Debian 12, the release that has Python 3.11."""

MMDEBSTRAP = (
    "mmdebstrap",
    "--mode=root",
    "--variant=minbase",
    "--skip=output/dev",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--include=usr-is-merged,python3,python3-pip,ca-certificates",
    '--aptopt=Acquire::Check-Valid-Until "false"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    f"--customize-hook={CLEAN}",
    SUITE,
)

REF_NAME = "org.opencontainers.image.ref.name"
"""Annotation of an OCI index that names an image; containerd's import reads it."""

KEPT = 2
"""Number of kept results: the current result, and an older one that a running test may still read."""

_UNSHARE = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc")
_PRIVATE = ("setpriv", "--pdeathsig=KILL", *_UNSHARE)
"""Prefix of a command that ends with this process, together with all its child processes and mounts."""

_WITH_CACHE = 'mkdir -p /var/lib/containers && mount --bind "$0" /var/lib/containers && exec "$@"'
"""buildah's cache of blob digests has a fixed path; in this mount namespace, our cache is mounted there."""


def references(image: str) -> tuple[str, str]:
    """Names of an image in its archive: with its version, and with `latest` for manifests in examples/."""
    name = f"{REGISTRY}/confcom/{image}"
    return f"{name}:{confcom.__version__}", f"{name}:latest"


@dataclass(frozen=True, slots=True)
class Workshop:
    """Folders of one build: `scratch` is removed at the end, `context` has a copy of the checkout's files."""

    folder: Path
    scratch: Path
    context: Path

    @property
    def base_key(self) -> str:
        return content_hash(json.dumps([MMDEBSTRAP, EPOCH]).encode())

    def build(self, storage: Path, name: str) -> Path:
        """Build every image in `storage`, which may hold earlier layers; return the folder of archives."""
        base, wheels = self._base(), self._wheels()
        buildah = self._buildah(storage)
        result = self.scratch / name
        result.mkdir()
        self._run([*buildah, "rm", "--all"], "buildah")  # containers of an interrupted build
        if subprocess.run([*buildah, "inspect", "--type=image", BASE], capture_output=True, check=False).returncode:
            with timed("image base loaded into buildah"):
                loader = self.scratch / "Dockerfile.base"
                loader.write_text(f"FROM scratch\nADD {base.name} /\n")
                self._bud(buildah, f"--tag={BASE}", "-f", str(loader), str(base.parent))
        pip_conf = self.scratch / "pip.conf"
        pip_conf.write_text("[global]\nno-index = true\nfind-links = /mnt/wheels\n")
        names = {"build": ["localhost/confcom-build"], **{image: references(image) for image in IMAGES}}
        for target, tags in names.items():
            with timed(f"image stage {target}"):
                self._bud(
                    buildah,
                    *(f"--tag={tag}" for tag in tags),
                    "--layers",
                    "--network=none",
                    f"--volume={wheels}:/mnt/wheels:ro",
                    f"--volume={pip_conf}:/etc/pip.conf:ro",
                    f"--build-arg=BASE={BASE}",
                    f"--build-arg=SOURCE_DATE_EPOCH={EPOCH}",
                    f"--build-arg=VERSION={confcom.__version__}",
                    f"--target={target}",
                    f"--file={self.context / 'Dockerfile'}",
                    str(self.context),
                )
        with timed("images exported"):
            self._export(buildah, result)
        self._run([*buildah, "rmi", "--prune", "--force"], "buildah")
        return result

    def _bud(self, buildah: Sequence[str], *arguments: str) -> None:
        common = ["--pull-never", "--timestamp", EPOCH, "--identity-label=false"]
        self._run([*buildah, "bud", f"--signature-policy={self._policy}", *common, *arguments], "buildah")

    def _export(self, buildah: Sequence[str], result: Path) -> None:
        """Write all images into one OCI layout, which stores shared layers once, and make an archive of each image."""
        layout = self.scratch / f"{result.name}.oci"
        for image in IMAGES:
            push = ["push", f"--signature-policy={self._policy}", references(image)[0], f"oci:{layout}:{image}"]
            self._run([*buildah, *push], "buildah")
        index = json.loads((layout / "index.json").read_text())
        normal = ["--sort=name", f"--mtime=@{EPOCH}", "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]
        entries = {entry["annotations"][REF_NAME]: entry for entry in index["manifests"]}
        for image, entry in entries.items():
            manifest = json.loads((layout / _blob(entry)).read_text())
            blobs = [_blob(part) for part in (entry, manifest["config"], *manifest["layers"])]
            index["manifests"] = [{**entry, "annotations": {REF_NAME: name}} for name in references(image)]
            (layout / "index.json").write_text(json.dumps(index))
            tar = ["tar", "-C", str(layout), *normal, "-cf", str(result / f"{image}.tar"), "oci-layout", "index.json"]
            self._run([*tar, *sorted(blobs)], "tar")
        shutil.rmtree(layout)

    def _base(self) -> Path:
        tar = self.folder / "base" / self.base_key / "base.tar"
        if not tar.exists():
            with timed("image base: a stand-in for python:3.11-slim, made of Debian 12"):
                made = self.scratch / "base.tar"
                known = DEBIAN_SOURCES.exists() and SUITE in DEBIAN_SOURCES.read_text()
                mirrors = [str(DEBIAN_SOURCES)] if known else []
                self._run(
                    [*_PRIVATE, "env", f"TMPDIR={self._temporary}", *MMDEBSTRAP, str(made), *mirrors], "mmdebstrap"
                )
                tar.parent.mkdir(parents=True, exist_ok=True)
                made.rename(tar)
                keep_newest(tar.parent.parent, 1)
        return tar

    def _wheels(self) -> Path:
        locks = [self.context / "requirements" / lock for lock in LOCKS]
        wheels = self.folder / "wheels" / content_hash(*(lock.read_bytes() for lock in locks))
        if not wheels.is_dir():
            with timed("packages for images downloaded"):
                made = self.scratch / "wheels"
                command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
                command += [
                    "--no-deps",
                    "--require-hashes",
                    "--only-binary=:all:",
                    "--python-version=3.11",
                    f"--dest={made}",
                ]
                self._run([*command, *(f"--requirement={lock}" for lock in locks)], "pip")
                wheels.parent.mkdir(exist_ok=True)
                made.rename(wheels)
                keep_newest(wheels.parent)
        return wheels

    @property
    def _policy(self) -> Path:
        return self.scratch / "policy.json"

    @property
    def _temporary(self) -> Path:
        folder = self.scratch / "tmp"
        folder.mkdir(exist_ok=True)
        return folder

    def _buildah(self, storage: Path) -> list[str]:
        storage.mkdir(parents=True, exist_ok=True)
        roots = f'graphroot = "{storage}"\nrunroot = "{self.scratch / "runroot"}"\n'
        settings = {
            "CONTAINERS_STORAGE_CONF": f'[storage]\ndriver = "overlay"\n{roots}',
            "CONTAINERS_REGISTRIES_CONF": "unqualified-search-registries = []\n",
        }
        for variable, text in settings.items():
            (self.scratch / variable).write_text(text)
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}\n')
        variables = {name: str(self.scratch / name) for name in settings}
        variables |= {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(self._temporary)}
        cache = self.folder / "containers"
        cache.mkdir(exist_ok=True)
        start = [*_PRIVATE, "sh", "-c", _WITH_CACHE, str(cache), "env"]
        return [*start, *(f"{name}={value}" for name, value in variables.items()), "buildah"]

    def _run(self, command: Sequence[str], program: str) -> None:
        log = self.folder / "log.txt"
        environ = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
        with log.open("ab") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environ, check=False
            )
        if done.returncode:
            raise ConfcomError(f"{program} ended with {done.returncode}", remedy=f"see the end of {log}")


def keep_newest(folder: Path, count: int = KEPT) -> None:
    by_age = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in by_age[count:]:
        shutil.rmtree(old)


def content_hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def _blob(descriptor: dict[str, str]) -> str:
    return "blobs/" + descriptor["digest"].replace(":", "/")


def default_folder() -> Path:
    """Folder of built archives: outside the checkout, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confcom" / "images"


def build_all() -> dict[str, Path]:
    """The OCI archive of each of `IMAGES`, built if missing; the names in an archive are `references`."""
    if os.geteuid():
        raise UnavailableError(
            "images cannot be built", why="buildah and mmdebstrap need root here", remedy="run it as root"
        )
    folder = default_folder()
    with alone(folder / "lock", f"another build in {folder}"), contextlib.ExitStack() as stack:
        for leftover in folder.glob("run-*"):  # remains of a killed build
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
    shutil.copy2(ROOT / "images" / "Dockerfile", context)


def _content_key(context: Path) -> str:
    parts = [Path(__file__).read_bytes()]
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
    for image, archive in archives.items():
        names = ", ".join(references(image))
        sys.stdout.write(f"{archive} ({archive.stat().st_size / 1e6:.1f} MB): {names}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
