"""python -m confcom.simulated_root."""

import os
import sys

from confcom.simulated_root.job import main

if __name__ == "__main__":
    sys.exit(main(environ=os.environ, stdout=sys.stdout, stderr=sys.stderr))
