"""The modes in which a program can be isolated, and the programs of util-linux and coreutils that isolate it."""

import os
import shutil
from enum import StrEnum

TOOLS = ("chroot", "env", "ln", "mkdir", "mount", "rm", "setpriv", "sh", "unshare")
"""The programs that start a container, or another program with mounts of its own."""

AUTO = "auto"


class Mode(StrEnum):
    ROOT = "root"
    """Only root can mount, in a new mount namespace."""
    USER_NAMESPACE = "user-namespace"
    """Any user can mount, in a new mount namespace that a new user namespace contains."""
    NO_NAMESPACE = "no-namespace"
    """Plain processes. Nothing is mounted, so variables tell our client the real paths."""


MODES = (AUTO, *(mode.value for mode in Mode))


def find_tools(path: str) -> dict[str, str]:
    search = os.pathsep.join([path, "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
    return {name: place for name in TOOLS if (place := shutil.which(name, path=search))}
