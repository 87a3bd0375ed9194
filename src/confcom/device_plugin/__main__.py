"""`python -m confcom.device_plugin`."""

import os
import sys

from confcom.extras import daemon_imports

if __name__ == "__main__":
    # gRPC's C core reads this once, when it is imported (grpcio 1.85, tried). Otherwise it writes lines to stderr that
    # are not JSON, such as "Got goaway" when a peer ends. It returns errors to its callers too, and they log them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with daemon_imports("daemon"):
        from confcom.device_plugin.main import main

    sys.exit(main(sys.argv[1:], prog="python -m confcom.device_plugin", environ=os.environ, stderr=sys.stderr))
