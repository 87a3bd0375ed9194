"""kubectl and helm as programs: those of the cluster for tests, if they were built on this machine, or the system's."""

import os
import shutil
from pathlib import Path


def newest(pattern):
    """None if there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confcom" / "tools"
    built = sorted(cache.glob(pattern), key=lambda path: path.stat().st_mtime)
    return str(built[-1]) if built else shutil.which(pattern.rpartition("/")[2])


def find_kubectl():
    return newest("kubernetes-*/kubectl")


def find_helm():
    """The newest major version, so no other one such as helm-3-..."""
    return newest(f"helm-{'[0-9a-f]' * 16}/helm")
