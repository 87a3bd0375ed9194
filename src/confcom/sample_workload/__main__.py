"""`python -m confcom.sample_workload`."""

import sys

from confcom.sample_workload.program import main

if __name__ == "__main__":
    sys.exit(main())
