"""`python -m confcom.simulated_pcs`."""

import os
import sys

from confcom.extras import exit_without_extra

if __name__ == "__main__":
    with exit_without_extra("daemon"):
        from confcom.simulated_pcs.main import main

    sys.exit(main(sys.argv[1:], prog="python -m confcom.simulated_pcs", environ=os.environ, stderr=sys.stderr))
