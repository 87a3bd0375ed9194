"""Paths of kubectl and helm: the programs built on this machine for the cluster, or the system's programs."""

import os
import shutil
from pathlib import Path

FINISHED = "[0-9a-f]" * 16
"""End of the name of a program's folder; while a program is built, its folder has another end."""


def newest(pattern):
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "confcom" / "tools"
    built = sorted(cache.glob(pattern), key=lambda path: path.stat().st_mtime)
    return str(built[-1]) if built else shutil.which(pattern.rpartition("/")[2])


def find_kubectl():
    return newest(f"kubernetes-*{FINISHED}/kubectl")


def find_helm():
    return newest(f"helm-{FINISHED}/helm")
