"""The modes in which a program can be isolated, and the programs of util-linux and coreutils that isolate it."""

import os
import shutil
from enum import StrEnum

TOOLS = ("chroot", "env", "ln", "mkdir", "mount", "setpriv", "sh", "unshare")
"""The programs that start a container with namespaces."""

AUTO = "auto"


class Mode(StrEnum):
    ROOT = "root"
    """Only root can start containers, with new mount and PID namespaces."""
    USER_NAMESPACE = "user-namespace"
    """Any user can start containers: a new user namespace contains their new mount and PID namespaces."""
    NO_NAMESPACE = "no-namespace"
    """Containers are plain processes. Nothing is mounted, so variables tell our client the real paths."""


def find_tools(path: str) -> dict[str, str]:
    search = os.pathsep.join([path, "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    return {name: place for name in TOOLS if (place := shutil.which(name, path=search))}
