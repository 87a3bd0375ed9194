"""The paths in a node's directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from confcom.errors import SettingsError, UnavailableError

DEVICE_PLUGIN_DIR = PurePosixPath("/var/lib/kubelet/device-plugins")
"""The kubelet's device plugin directory: a constant in the kubelet, which `--root-dir` does not change."""

AESMD_DIR = PurePosixPath("/var/run/aesmd")
"""The directory in which Intel's libraries look for AESM's socket; they have no setting for it."""

MAX_DIR_BYTES = 35
"""Longest DIR. The longest socket path below it is a device plugin's: 37 bytes of directories and 27 of the socket's
name. The daemons accept 99 bytes of the 107 that unix(7) allows."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below DIR."""

    directory: Path

    @property
    def control_socket(self) -> Path:
        """The socket of the node's control API."""
        return self.directory / "control.sock"

    @property
    def node_root(self) -> Path:
        """The simulated node's root file system: host path P means this directory + P."""
        return self.directory / "node"

    @property
    def device_plugin_dir(self) -> Path:
        """The device plugin directory, with the plugins' and the kubelet's sockets."""
        return self.host_path(DEVICE_PLUGIN_DIR)

    @property
    def kubelet_socket(self) -> Path:
        """The socket of the kubelet stand-in's Registration service."""
        return self.device_plugin_dir / "kubelet.sock"

    @property
    def aesm_socket(self) -> Path:
        """The quote helper's socket."""
        return self.host_path(AESMD_DIR) / "aesm.socket"

    @property
    def platform(self) -> Path:
        """The simulated platform's state directory."""
        return self.directory / "platform"

    @property
    def pods(self) -> Path:
        """One directory per pod."""
        return self.directory / "pods"

    @property
    def logs(self) -> Path:
        """One file per container."""
        return self.directory / "logs"

    def host_path(self, path: PurePosixPath | str) -> Path:
        """Return the real path of a path on the simulated node.

        `..` is resolved first, as text, so that no path leads out of the node's root.
        """
        parts: list[str] = []
        for part in PurePosixPath(path).parts:
            if part == "..":
                parts[-1:] = []
            elif part != "/":
                parts.append(part)
        return self.node_root.joinpath(*parts)

    def require_short(self) -> None:
        """Refuse a directory whose name is too long for the paths of the unix sockets below it."""
        length = len(os.fsencode(self.directory))
        if length > MAX_DIR_BYTES:
            raise SettingsError(
                f"the directory's name {self.directory} is too long",
                error_code="directory-name-too-long",
                why=f"it has {length} bytes, and unix sockets below it leave room for {MAX_DIR_BYTES}",
                remedy="choose a shorter one, such as /tmp/node",
            )

    def create(self) -> None:
        """Create the directories; the node's `/var/run` is a link to its `/run`, as on Linux systems.

        Raises:
            SettingsError: DIR is too long for the unix sockets below it.
            UnavailableError: this user may not create them, or a path exists and is not a directory.
        """
        self.require_short()
        try:
            self._create_directories()
        except OSError as error:
            raise UnavailableError(
                f"no node can be kept in {self.directory}",
                error_code="directory-not-usable",
                why=error.strerror or str(error),
                remedy="choose a directory that this user may create or write to, such as /tmp/node",
            ) from error

    def _create_directories(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o755)
        self.pods.mkdir(exist_ok=True)
        self.logs.mkdir(exist_ok=True)
        (self.node_root / "run").mkdir(parents=True, exist_ok=True)
        (self.node_root / "var").mkdir(exist_ok=True)
        var_run = self.node_root / "var" / "run"
        if not var_run.is_symlink() and not var_run.exists():
            var_run.symlink_to("../run")
        self.device_plugin_dir.mkdir(parents=True, exist_ok=True)
        self.host_path(AESMD_DIR).mkdir(exist_ok=True)
