"""Build the images of images/Dockerfile without docker, a daemon or a registry, for a cluster on this machine.

A test machine may reach no registry of images, and a build on it may reach no index of packages. So the base
`python:3.11-slim` is replaced (`--build-arg BASE=...`) by a Debian 12 that mmdebstrap makes, with its Python.
The packages are downloaded beforehand, from the same hashed lock files. Results are kept, keyed by content and commit.
A base gets Debian's security updates only when it is made anew; to force this, remove the folder.
"""

from __future__ import annotations

import argparse
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
from typing import Any

import confcom
from confcom.errors import ConfcomError, ExitCode, UnavailableError, shortened
from e2e.packages import install
from e2e.progress import alone, say, timed
from e2e.source import Source

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

BASE_EPOCH = 1767225600
"""Modification time of every file in the stand-in base: 1 January 2026. Images have the time of their commit."""

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
    '--aptopt=APT::Sandbox::User "root"',  # otherwise the owner of two folders depends on the machine's own folders
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    f"--customize-hook={CLEAN}",
    SUITE,
)

LABELS = "org.opencontainers.image."
REF_NAME = f"{LABELS}ref.name"
"""Annotation of an OCI index that names an image; containerd's import reads it."""

LAYOUT = "layout"
"""Folder of the OCI layout with all images, under their short names."""

KEPT = 2
"""Number of kept results: the current result, and an older one that a running test may still read."""

_UNSHARE = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc")
_PRIVATE = ("setpriv", "--pdeathsig=KILL", *_UNSHARE)
"""Prefix of a command that ends with this process, together with all its child processes and mounts."""

_WITH_CACHE = 'mkdir -p /var/lib/containers && mount --bind "$0" /var/lib/containers && exec "$@"'
"""buildah's cache of blob digests has a fixed path; in this mount namespace, our cache is mounted there."""


def reference(image: str, version: str = confcom.__version__, registry: str = REGISTRY) -> str:
    """Name of an image; by default its name in its archive, and in the manifests of examples/."""
    return f"{registry}/confcom/{image}:{version}"


@dataclass(frozen=True, slots=True)
class Built:
    """A folder with an archive of each of `IMAGES`, named `IMAGE.tar`, and the OCI layout `LAYOUT` with all of them."""

    folder: Path

    @property
    def layout(self) -> Path:
        return self.folder / LAYOUT

    def archive(self, image: str) -> Path:
        return self.folder / f"{image}.tar"

    def digest(self, image: str) -> str:
        return str(self._entry(image)["digest"])

    def manifest(self, image: str) -> dict[str, Any]:
        return self._json(self._entry(image))

    def layers(self, image: str) -> list[Path]:
        return [self.layout / _blob(layer) for layer in self.manifest(image)["layers"]]

    def config(self, image: str) -> dict[str, Any]:
        return self._json(self.manifest(image)["config"])

    def labels(self, image: str) -> dict[str, str]:
        return {name.removeprefix(LABELS): text for name, text in self.config(image)["config"]["Labels"].items()}

    def _entry(self, image: str) -> dict[str, Any]:
        entries = json.loads((self.layout / "index.json").read_text())["manifests"]
        return next(entry for entry in entries if entry["annotations"][REF_NAME] == image)

    def _json(self, descriptor: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.layout / _blob(descriptor)).read_text())
        return found


@dataclass(frozen=True, slots=True)
class Workshop:
    """Folders of one build: `scratch` is removed at the end, `context` has a copy of the checkout's files.

    An empty `base` means the stand-in; otherwise it is an image that the Dockerfile's `BASE` may name, by digest.
    """

    folder: Path
    scratch: Path
    context: Path
    source: Source
    base: str = ""

    @property
    def base_key(self) -> str:
        return content_hash(json.dumps([MMDEBSTRAP, BASE_EPOCH, self.base]).encode())

    @property
    def layers_key(self) -> str:
        """Layers are kept for one commit: they have its time and labels, whose arguments buildah does not compare."""
        return content_hash(self.base_key.encode(), str(self.source).encode())

    def build(self, storage: Path) -> Built:
        """Build every image in `storage`, which may hold earlier layers."""
        offline, buildah = self._offline(), self._buildah(storage)
        result = self.scratch / "built"
        result.mkdir()
        self._run([*buildah, "rm", "--all"], "buildah")  # containers of an interrupted build
        base = self._load_base(buildah)
        arguments = {
            **base,
            "VERSION": self.source.version,
            "REVISION": self.source.revision,
            "CREATED": self.source.created,
            "PROJECT_URL": confcom.PROJECT_URL,
        }
        tags = {"build": "localhost/confcom-build", **{one: reference(one, self.source.version) for one in IMAGES}}
        for target, tag in tags.items():
            with timed(f"image stage {target}"):
                self._bud(
                    buildah,
                    f"--tag={tag}",
                    "--layers",
                    *offline,
                    *(f"--build-arg={name}={value}" for name, value in arguments.items()),
                    f"--target={target}",
                    f"--file={self.context / 'Dockerfile'}",
                    str(self.context),
                    epoch=self.source.epoch,
                )
        with timed("images exported"):
            self._export(buildah, Built(result))
        self._run([*buildah, "rmi", "--prune", "--force"], "buildah")
        return Built(result)

    def _load_base(self, buildah: Sequence[str]) -> dict[str, str]:
        """Load the base into buildah if it is missing; return the Dockerfile's arguments that name it."""
        if self.base:
            self._run([*buildah, "pull", f"--signature-policy={self._policy}", self.base], "buildah")
            return {"BASE": self.base, "BASE_DIGEST": self.base.partition("@")[2]}
        digest = [*buildah, "images", "--format={{.Digest}}", "--filter", f"reference={BASE}"]
        if not (found := subprocess.run(digest, capture_output=True, text=True, check=False).stdout.strip()):
            tar, loader = self._base(), self.scratch / "Dockerfile.base"
            with timed("image base loaded into buildah"):
                loader.write_text(f"FROM scratch\nADD {tar.name} /\n")
                self._bud(buildah, f"--tag={BASE}", "-f", str(loader), str(tar.parent), epoch=BASE_EPOCH)
            found = subprocess.run(digest, capture_output=True, text=True, check=True).stdout.strip()
        return {"BASE": BASE, "BASE_DIGEST": found}

    def _bud(self, buildah: Sequence[str], *arguments: str, epoch: int) -> None:
        common = ["--pull-never", f"--timestamp={epoch}", "--identity-label=false"]
        self._run([*buildah, "bud", f"--signature-policy={self._policy}", *common, *arguments], "buildah")

    def _export(self, buildah: Sequence[str], result: Built) -> None:
        """Write all images into one OCI layout, which stores shared layers once, and make an archive of each image."""
        for image in IMAGES:
            name, target = reference(image, self.source.version), f"oci:{result.layout}:{image}"
            self._run([*buildah, "push", f"--signature-policy={self._policy}", name, target], "buildah")
        times = f"--mtime=@{self.source.epoch}"
        normal = ["--sort=name", times, "--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"]
        whole = (result.layout / "index.json").read_text()
        for entry in json.loads(whole)["manifests"]:
            image = entry["annotations"][REF_NAME]
            manifest = result.manifest(image)
            blobs = [_blob(part) for part in (entry, manifest["config"], *manifest["layers"])]
            named = {**entry, "annotations": {REF_NAME: reference(image, self.source.version)}}
            alone = {**json.loads(whole), "manifests": [named]}
            (self.scratch / "index.json").write_text(json.dumps(alone))
            index = ["-C", str(self.scratch), "index.json", "-C", str(result.layout)]
            tar = ["tar", *normal, "-cf", str(result.archive(image)), *index, "oci-layout", *sorted(blobs)]
            self._run(tar, "tar")

    def _base(self) -> Path:
        tar = self.folder / "base" / self.base_key / "base.tar"
        if not tar.exists():
            with timed("image base: a stand-in for python:3.11-slim, made of Debian 12"):
                made = self.scratch / "base.tar"
                known = DEBIAN_SOURCES.exists() and SUITE in DEBIAN_SOURCES.read_text()
                mirrors = [str(DEBIAN_SOURCES)] if known else []
                start = [*_PRIVATE, "env", f"TMPDIR={self._temporary}"]
                self._run([*start, *MMDEBSTRAP, str(made), *mirrors], "mmdebstrap")
                tar.parent.mkdir(parents=True, exist_ok=True)
                made.rename(tar)
                keep_newest(tar.parent.parent, 1)
        return tar

    def _offline(self) -> list[str]:
        """Flags of a build without a network: the locks' packages are downloaded beforehand."""
        wheels, pip_conf = self._wheels(), self.scratch / "pip.conf"
        pip_conf.write_text("[global]\nno-index = true\nfind-links = /mnt/wheels\n")
        return ["--network=none", f"--volume={wheels}:/mnt/wheels:ro", f"--volume={pip_conf}:/etc/pip.conf:ro"]

    def _wheels(self) -> Path:
        locks = [self.context / "requirements" / lock for lock in LOCKS]
        wheels = self.folder / "wheels" / content_hash(*(lock.read_bytes() for lock in locks))
        if not wheels.is_dir():
            with timed("packages for images downloaded"):
                made = self.scratch / "wheels"
                command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
                command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--python-version=3.11"]
                self._run([*command, f"--dest={made}", *(f"--requirement={lock}" for lock in locks)], "pip")
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
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(BASE_EPOCH)}  # mmdebstrap's
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


def build_all(checkout: Path = ROOT, source: Source | None = None, base: str = "") -> Built:
    """The images of a checkout's files, built if missing, on the stand-in or on another base."""
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
        workshop = Workshop(folder, Path(scratch), Path(scratch) / "context", source or Source.of(checkout), base)
        _snapshot(checkout, workshop.context)
        finished = folder / "archives" / _content_key(workshop)
        if finished.is_dir():
            os.utime(finished)
            say(f"images: nothing changed: {finished}")
        else:
            install(PROGRAMS, purpose="building images")
            made = workshop.build(folder / "storage" / workshop.layers_key)
            finished.parent.mkdir(exist_ok=True)
            made.folder.rename(finished)
            keep_newest(finished.parent)
            keep_newest(folder / "storage", 1)
    return Built(finished)


def _snapshot(checkout: Path, context: Path) -> None:
    context.mkdir()
    ignore = checkout / ".dockerignore"
    for line in ignore.read_text().splitlines():
        if line.startswith("!"):
            source = checkout / line[1:]
            if source.is_dir():
                skip = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, context / source.name, symlinks=True, ignore=skip)
            else:
                shutil.copy2(source, context)
    shutil.copy2(ignore, context)
    shutil.copy2(checkout / "images" / "Dockerfile", context)


def _content_key(workshop: Workshop) -> str:
    context = workshop.context
    parts = [Path(__file__).read_bytes(), f"{workshop.source} {workshop.base}".encode()]
    for path in sorted(context.rglob("*")):
        if path.is_symlink() or path.is_file():
            content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
            parts += [path.relative_to(context).as_posix().encode(), content]
    return content_hash(*parts)


def push(built: Built, registry: str, *, plain_http: bool) -> None:
    """Copy the images into a registry; their digests stay the same."""
    for image in IMAGES:
        target = reference(image, registry=registry)
        flags = ["--preserve-digests", "--insecure-policy", f"--dest-tls-verify={str(not plain_http).lower()}"]
        copy = ["/usr/bin/env", "skopeo", "copy", *flags, f"oci:{built.layout}:{image}", f"docker://{target}"]
        done = subprocess.run(copy, capture_output=True, text=True, check=False)
        if done.returncode:
            why = shortened(done.stderr)
            raise UnavailableError(f"{target} was not pushed", why=why, remedy="log in with `skopeo login`, and repeat")
        say(f"pushed {target}@{built.digest(image)}")


def table(built: Built) -> str:
    """The MB that a node pulls: the size of each image, and of those layers that no earlier image has."""
    lines, seen = [f"{'image':<16} {'MB':>6} {'new MB':>7}  digest"], set[str]()
    for image in IMAGES:
        layers = {layer["digest"]: layer["size"] for layer in built.manifest(image)["layers"]}
        new = sum(size for digest, size in layers.items() if digest not in seen)
        seen |= set(layers)
        lines.append(f"{image:<16} {sum(layers.values()) / 1e6:>6.1f} {new / 1e6:>7.1f}  {built.digest(image)}")
    base = built.manifest(IMAGES[0])["layers"][0]["size"]
    return "\n".join([*lines, f"{'(base)':<16} {base / 1e6:>6.1f}", ""])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make images", description=__doc__.partition("\n")[0])
    parser.add_argument("--push", metavar="REGISTRY", help="copy the images into this registry, as in `skopeo login`")
    parser.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    options = parser.parse_args()
    try:
        built = build_all()
        sys.stdout.write(f"{built.folder}\n{table(built)}")
        if options.push:
            install({"skopeo": "skopeo"}, purpose="pushing images")
            push(built, options.push, plain_http=options.plain_http)
    except ConfcomError as error:
        say(str(error))
        return error.exit_code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
