"""`python -m confcom.controller`."""

import gc
import os
import sys

from confcom.extras import exit_without_extra

if __name__ == "__main__":
    # As in the node daemons: imported objects live until the process exits.
    gc.disable()
    with exit_without_extra("controller"):
        from confcom.controller.main import main

    gc.freeze()
    gc.enable()
    sys.exit(main(sys.argv[1:], prog="python -m confcom.controller", environ=os.environ, stderr=sys.stderr))
