"""Errors for an AESM service that cannot be reached; their texts name the usual causes."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from confcom.aesm.errors import ConnectionClosedError
from confcom.errors import UnavailableError

_MOUNT: Final = (
    "in a pod, ask for enclave memory in resources.limits, which brings the directory /var/run/aesmd with it, or mount "
    "that directory, never the socket file itself"
)


class ServiceUnreachableError(UnavailableError):
    """No service accepts connections at the AESM socket's path, or this user may not connect."""


class ServiceTimeoutError(UnavailableError):
    """The service did not answer before the client's deadline."""

    error_code = "answer-timeout"


def timeout_error(path: Path, call: str, seconds: float) -> ServiceTimeoutError:
    return ServiceTimeoutError(
        f"the AESM service at {path} did not answer {call} within {seconds:g} s",
        why="it is overloaded, or waits for a provisioning service (PCCS) that it cannot reach",
        remedy="try again; if it happens again, read the log of the quote helper (or aesmd) on this node",
    )


def closed_error(path: Path, call: str, error: OSError) -> ConnectionClosedError:
    return ConnectionClosedError(
        f"the AESM service at {path} broke off {call}",
        error_code="connection-broken",
        why=error.strerror or str(error),
        remedy="try again; if it happens again, read the log of the quote helper (or aesmd) on this node",
    )


def connect_error(path: Path, error: OSError) -> ServiceUnreachableError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            why, remedy = f"the directory {path.parent} does not exist here", f"{_MOUNT}; on a machine of your own, "
            if path.parent.is_dir():
                why = f"{path.parent} exists, but no quote helper (or aesmd) has created its socket there"
                remedy = "check that one runs on this node (Kubernetes: that the SGX quote helper is Ready there), or "
            return ServiceUnreachableError(
                f"there is no AESM socket at {path}",
                error_code="no-socket",
                why=why,
                remedy=f"{remedy}start one (confcom quote-helper --simulated --socket {path})",
            )
        case errno.ECONNREFUSED | errno.ENOTSOCK | errno.EPROTOTYPE if path.is_socket():
            return ServiceUnreachableError(
                f"no program serves the AESM socket {path}",
                error_code="socket-stale",
                why="the quote helper (or aesmd) that made it is gone, or the socket file itself was mounted into this "
                "container: a mounted file keeps pointing at the old socket when the service restarts",
                remedy=f"check that it runs on this node; {_MOUNT}",
            )
        case errno.ECONNREFUSED | errno.ENOTSOCK | errno.EPROTOTYPE:
            return ServiceUnreachableError(
                f"{path} is not a socket",
                error_code="socket-unusable",
                why="something else was created or mounted there",
                remedy=f"remove it; {_MOUNT}",
            )
        case errno.EACCES | errno.EPERM:
            return ServiceUnreachableError(
                f"this user may not connect to the AESM socket {path}",
                error_code="socket-forbidden",
                why="connecting needs write permission on the socket and search permission on its directories",
                remedy="check modes and owners (the quote helper makes the socket 0666 and its directory 0755), and "
                "the node's security module (SELinux, AppArmor)",
            )
        case _:
            return ServiceUnreachableError(
                f"the AESM socket {path} cannot be used",
                error_code="socket-unusable",
                why=error.strerror or str(error),
                remedy="check what is at that path",
            )
