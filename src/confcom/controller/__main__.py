"""`python -m confcom.controller`."""

import os
import sys

from confcom.extras import daemon_imports

if __name__ == "__main__":
    with daemon_imports("controller"):
        from confcom.controller.main import main

    sys.exit(main(sys.argv[1:], prog="python -m confcom.controller", environ=os.environ, stderr=sys.stderr))
