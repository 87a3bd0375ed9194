"""python -m bench.soak."""

import sys

from bench.soak.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
