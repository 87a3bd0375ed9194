"""`python -m confcom.device_plugin`."""

import os

from confcom.extras import run_as_module

if __name__ == "__main__":
    # gRPC's C core reads this once, when it is imported (grpcio 1.85, tried). Otherwise it writes lines to stderr that
    # are not JSON, such as "Got goaway" when a peer ends. It returns errors to its callers too, and they log them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    run_as_module("device_plugin", "daemon")
