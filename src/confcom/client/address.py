"""Path of the AESM socket, and the clients' time limit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confcom.errors import SettingsError, WrongTypeError, WrongValueError

DEFAULT_SOCKET_PATH: Final = Path("/var/run/aesmd/aesm.socket")
"""The path that is compiled into Intel's libraries, Gramine, Fortanix and Open Enclave."""

SOCKET_VARIABLE: Final = "CONFCOM_AESM_SOCKET"
"""Only our client reads this variable, for systems where nothing can be mounted at the default path."""

MAX_PATH_BYTES: Final = 107
"""sun_path holds 108 bytes including the terminating zero (unix(7))."""

EXCHANGE_SECONDS: Final = 15.0
"""Time limit of one request, from connecting to the last byte of the answer. Intel's client waits this long for each
single step, and services are built to answer within that time."""


def aesm_socket_path(environ: Mapping[str, str]) -> Path:
    return Path(environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET_PATH)


class SocketClient:
    """Base class of both clients, with the socket's path and the time limit."""

    def __init__(
        self,
        socket_path: str | os.PathLike[str] | None = None,
        *,
        timeout: float = EXCHANGE_SECONDS,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(socket_path, str | os.PathLike | None):
            raise WrongTypeError("the socket's path", "a path: text, or os.PathLike", socket_path)
        if not isinstance(timeout, int | float) or isinstance(timeout, bool):
            raise WrongTypeError("the timeout", "a number of seconds", timeout)
        if not timeout > 0:
            raise WrongValueError(f"a timeout of {timeout} s leaves no time", remedy="pass a positive number")
        if socket_path is None:
            socket_path = aesm_socket_path(os.environ if environ is None else environ)
        path = Path(socket_path)
        self.socket_path, self.address, self.timeout = path, str(path), timeout
        if "\0" in self.address or len(bytes(path)) > MAX_PATH_BYTES:
            raise SettingsError(
                f"no unix socket can have the path {str(path)!r}",
                error_code="socket-path-unusable",
                why=f"it has a zero byte, or more than the {MAX_PATH_BYTES} bytes that Linux takes (unix(7))",
                remedy=f"use a path such as {DEFAULT_SOCKET_PATH}, or a symbolic link to a longer one",
            )
