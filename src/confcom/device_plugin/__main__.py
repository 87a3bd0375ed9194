"""`python -m confcom.device_plugin`."""

import os
import sys

from confcom.daemon.grpc_log import silence_grpc

if __name__ == "__main__":
    silence_grpc(os.environ)
    from confcom.device_plugin.main import main

    sys.exit(main(sys.argv[1:], prog="python -m confcom.device_plugin", environ=os.environ, stderr=sys.stderr))
