"""Build the cluster's programs once from their pinned Go modules; install the distribution's programs.

Built programs stay in a folder whose name depends on everything that affects the result of the build.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError, SettingsError, UnavailableError
from e2e import packages
from e2e.progress import alone, say, timed

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = ROOT / "e2e" / "tools"

KUBERNETES = "kubernetes"
"""Folder of the default version; folders of other versions have the version after this name."""

NAMES = ("pause", "etcd", "containerd", "helm")
"""Other programs of every cluster; the quickest build comes first, to show a broken environment soon."""

CNI_FOLDER = Path("/usr/lib/cni")
"""Folder in which Debian and Ubuntu install the network plugins."""

PACKAGES = {
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    str(CNI_FOLDER / "ptp"): "containernetworking-plugins",
}
"""Programs of the distribution that the node runs, and their packages."""

HASH_DIGITS = 16
"""Number of digits of the SHA-256 in a folder's name."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Folders of the built programs, one for each module."""

    folders: tuple[Path, ...]

    def path(self, program: str) -> Path:
        return next(folder / program for folder in self.folders if (folder / program).is_file())


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confcom" / "tools"


def versions() -> Mapping[str, str]:
    """The pinned versions of Kubernetes, such as `1.36.3`, and their folders; the default comes first."""
    folders = sorted(path.parent.name for path in MODULES.glob(f"{KUBERNETES}*/go.mod"))
    return {_kubernetes_version(folder).removeprefix("v"): folder for folder in folders}


def prepare(kubernetes: str = "") -> Tools:
    """Build and install missing programs; an empty version means the default version."""
    names = [*NAMES, _folder_of(kubernetes)]
    packages.install(PACKAGES, purpose="the cluster")
    return Tools(tuple(map(build, names)))


def build(name: str) -> Path:
    """Folder with one module's programs; builds the programs if they are missing."""
    go = _find_go()
    version = _go_version(go)
    finished = _finished(name, version)
    if not finished.is_dir():
        with alone(finished.parent / f"{name}.lock", f"another build of {name} in {finished.parent}"):
            if not finished.is_dir():  # no other process has built the programs meanwhile
                _build(MODULES / name, finished, [go, "build", "-trimpath", "-ldflags", _flags(name)], version)
    return finished


def _folder_of(version: str) -> str:
    pinned = versions()
    if not version:
        return KUBERNETES
    if version not in pinned:
        raise SettingsError(
            f"no Kubernetes {version} is pinned here",
            why=f"e2e/tools has it of {', '.join(pinned)}",
            remedy="choose one of them, or add a folder: see e2e/tools/README.md",
        )
    return pinned[version]


def _go_version(go: str) -> str:
    done = subprocess.run([go, "env", "GOVERSION"], cwd=MODULES, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _find_go() -> str:
    go = packages.find("go") or shutil.which("go", path="/usr/local/go/bin")
    if not go:
        raise UnavailableError(
            "the cluster's programs cannot be built",
            why="there is no Go here",
            remedy="install Go (the version is in e2e/tools/kubernetes/go.mod; a newer one is fine)",
        )
    return go


def _flags(name: str) -> str:
    return f"-s -w -X k8s.io/component-base/version.gitVersion={_kubernetes_version(name)}"


def _finished(name: str, version: str) -> Path:
    digest = hashlib.sha256(f"{version}\n{_flags(name)}\n".encode())
    for path in sorted((MODULES / name).iterdir()):
        digest.update(path.read_bytes())
    return default_cache() / f"{name}-{digest.hexdigest()[:HASH_DIGITS]}"


def _build(module: Path, finished: Path, command: Sequence[str], version: str) -> None:
    cache, name = finished.parent, module.name
    say(f"building {name} with {version} (once; it stays in {cache})")
    log = cache / f"{name}.log"
    scratch = cache / f"{name}.unfinished"
    shutil.rmtree(scratch, ignore_errors=True)  # remains of a killed build
    with timed(f"built {name}"), log.open("wb") as output:
        environ = {**os.environ, "CGO_ENABLED": "0"}
        done = subprocess.run(
            [*command, "-o", f"{scratch}/", "tool"],
            cwd=module,
            env=environ,
            stdout=output,
            stderr=output,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(scratch, ignore_errors=True)
            raise ConfcomError(f"building {name} failed", remedy=f"see the end of {log}")
    same = cache.glob(f"{name}-{'[0-9a-f]' * HASH_DIGITS}/")
    by_age = sorted(same, key=lambda folder: folder.stat().st_mtime)
    for older in by_age[:-1]:  # a cluster of another checkout may run from the newest folder
        shutil.rmtree(older)
    scratch.rename(finished)


def _kubernetes_version(folder: str) -> str:
    """Version for `kubectl version` in programs built here; a module that names none gets the default."""
    for module in (folder, KUBERNETES):
        text = (MODULES / module / "go.mod").read_text()
        if found := re.search(r"^(?:require)?\s*k8s\.io/kubernetes (v\S+)", text, re.MULTILINE):
            return found[1]
    raise ConfcomError("e2e/tools/kubernetes/go.mod requires no k8s.io/kubernetes", remedy="restore the file")
