"""`python -m confcom.device_plugin`."""

import os

from confcom.extras import run_as_module

if __name__ == "__main__":
    # gRPC's C core reads this variable only at its import (tried: grpcio 1.85). Callers still see and log errors.
    # By default, gRPC writes text, not JSON, to stderr, such as "Got goaway" when a peer ends.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    run_as_module("device_plugin", "daemon")
