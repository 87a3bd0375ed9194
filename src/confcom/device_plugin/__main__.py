"""`python -m confcom.device_plugin`."""

import gc
import os
import sys

from confcom.daemon.grpc_log import silence_grpc

if __name__ == "__main__":
    silence_grpc(os.environ)
    # As in the quote helper: imported objects live until the process exits, and collecting garbage while importing
    # takes a fifteenth of the startup time.
    gc.disable()
    from confcom.device_plugin.main import main

    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:], prog="python -m confcom.device_plugin", environ=os.environ, stderr=sys.stderr))
