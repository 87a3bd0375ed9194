"""Build the cluster's programs from their pinned Go modules, once; and install what the distribution has.

No registry of packages carries a kubelet, so Kubernetes, etcd, containerd and helm are built unchanged from their Go
modules (`e2e/tools/*/go.mod`). What was built stays in a folder named by everything that decides about the result.

Usage: python -m e2e.cluster.tools
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from confcom.errors import ConfcomError, UnavailableError, explain
from e2e import packages
from e2e.progress import say, timed

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = ROOT / "e2e" / "tools"

NAMES = ("pause", "etcd", "containerd", "helm", "kubernetes")
"""The folders of `e2e/tools`, the quickest first, so that something broken in the surroundings shows soon."""

PACKAGES = {"runc": "runc", "iptables": "iptables", "ip": "iproute2", "nsenter": "util-linux", "unshare": "util-linux"}
"""What the node runs besides, and the packages it is in."""

CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/usr/libexec/cni"), Path("/opt/cni/bin"))
"""Where distributions put the network plugins (Debian and Ubuntu, Fedora, the plugins' own archive)."""

CNI_PLUGINS = ("ptp", "host-local", "loopback", "portmap")

LOG_LINES = 30
"""How much of a failed build's output an error shows; all of it is in the log beside the cache."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the programs are.

    Args:
        folders: of the built programs, one per module.
        cni: of the network plugins.
    """

    folders: tuple[Path, ...]
    cni: Path

    def path(self, program: str) -> Path:
        """The built program of this name (etcd's is called `server`)."""
        for folder in self.folders:
            if (folder / program).is_file():
                return folder / program
        raise UnavailableError(
            f"{program} was not built",
            why="no tool block in e2e/tools/*/go.mod names it",
            remedy=f"add it, or look into {', '.join(map(str, self.folders))}",
        )


def default_cache() -> Path:
    """Where built programs stay: outside the checkout, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confcom" / "tools"


def prepare(cache: Path | None = None) -> Tools:
    """Build and install what is missing.

    Args:
        cache: the folder of built programs.

    Raises:
        UnavailableError: no Go, or a package of the distribution cannot be installed.
        ConfcomError: a build failed.
    """
    packages.install(PACKAGES, purpose="the cluster")
    cache = cache or default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    go = _find_go()
    version = _go_version(go)
    with _alone(cache):
        return Tools(folders=tuple(_built(cache, name, go, version) for name in NAMES), cni=_cni_folder())


def _cni_folder() -> Path:
    def complete() -> Path | None:
        return next((path for path in CNI_FOLDERS if all((path / plugin).exists() for plugin in CNI_PLUGINS)), None)

    found = complete()
    if not found:
        packages.install({str(CNI_FOLDERS[0] / "ptp"): "containernetworking-plugins"}, purpose="the cluster")
        found = complete()
    if not found:
        raise UnavailableError(
            "the cluster needs the CNI plugins",
            why=f"{', '.join(CNI_PLUGINS)} are in none of {', '.join(map(str, CNI_FOLDERS))}",
            remedy="install the package containernetworking-plugins",
        )
    return found


def _go_version(go: str) -> str:
    done = subprocess.run([go, "env", "GOVERSION"], cwd=MODULES, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(
            "the cluster's programs cannot be built", why=f"Go does not run here: {done.stderr.strip()}"
        )
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


def _built(cache: Path, name: str, go: str, version: str) -> Path:
    module = MODULES / name
    flags = f"-s -w -X k8s.io/component-base/version.gitVersion={_kubernetes_version()}"
    digest = hashlib.sha256(f"{version}\n{flags}\n".encode())
    for path in sorted(module.iterdir()):
        digest.update(path.read_bytes())
    finished = cache / f"{name}-{digest.hexdigest()[:16]}"
    if finished.is_dir():
        return finished
    say(f"building {name} with {version} (once; it stays in {cache})")
    log = cache / f"{name}.log"
    scratch = Path(tempfile.mkdtemp(dir=cache, prefix="unfinished-"))
    command = [go, "build", "-trimpath", "-ldflags", flags, "-o", f"{scratch}/", "tool"]
    with timed(f"built {name}"), log.open("wb") as output:
        environ = {**os.environ, "CGO_ENABLED": "0"}
        done = subprocess.run(command, cwd=module, env=environ, stdout=output, stderr=output, check=False)
        if done.returncode:
            shutil.rmtree(scratch)
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            raise ConfcomError(
                f"building {name} failed",
                why="\n".join(["its last lines are:", *lines]),
                remedy=f"all of it is in {log}",
            )
    by_age = sorted(cache.glob(f"{name}-*/"), key=lambda folder: folder.stat().st_mtime)
    for older in by_age[:-1]:  # a cluster of another checkout may be running from the newest
        shutil.rmtree(older)
    scratch.chmod(0o755)
    scratch.rename(finished)
    return finished


def _kubernetes_version() -> str:
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (MODULES / "kubernetes" / "go.mod").read_text(), re.MULTILINE)
    if not found:
        raise ConfcomError("e2e/tools/kubernetes/go.mod requires no k8s.io/kubernetes", remedy="restore the file")
    return found[1]


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build in {cache}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in cache.glob("unfinished-*"):  # of a build that was killed
            shutil.rmtree(leftover)
        yield


def main() -> int:
    """Build, and say where the programs are."""
    try:
        tools = prepare()
    except ConfcomError as error:
        sys.stderr.write(explain(error))
        return error.exit_code
    sys.stdout.write("".join(f"{folder}\n" for folder in tools.folders))
    return 0


if __name__ == "__main__":
    sys.exit(main())
