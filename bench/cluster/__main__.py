"""python -m bench.cluster."""

import sys

from bench.cluster.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
