"""Keep gRPC's C core from writing lines of its own between ours."""

from __future__ import annotations

from collections.abc import MutableMapping

VARIABLE = "GRPC_VERBOSITY"
SILENT = "NONE"


def silence_grpc(environ: MutableMapping[str, str]) -> None:
    """Have gRPC say nothing on stderr, unless the user asked for it.

    Call it before grpc is first imported: the C core reads the variable then, and never again (grpcio 1.85, tried).
    At every end of a peer it writes lines such as "Got goaway", which are no JSON; what matters of them it also
    returns to its caller, who logs it.

    Args:
        environ: the process's own environment.
    """
    environ.setdefault(VARIABLE, SILENT)
