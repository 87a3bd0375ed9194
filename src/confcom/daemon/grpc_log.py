"""A switch for the log lines that gRPC's C core writes to stderr."""

from __future__ import annotations

from collections.abc import MutableMapping

VARIABLE = "GRPC_VERBOSITY"
SILENT = "NONE"


def silence_grpc(environ: MutableMapping[str, str]) -> None:
    """Set GRPC_VERBOSITY so that gRPC writes nothing to stderr; a value that the user has set stays.

    Call this before grpc is first imported: the C core reads the variable only then (grpcio 1.85, tried). Whenever a
    peer ends, gRPC writes lines such as "Got goaway", which are not JSON. gRPC also returns errors to its caller,
    which logs them.

    Args:
        environ: the process's own environment.
    """
    environ.setdefault(VARIABLE, SILENT)
