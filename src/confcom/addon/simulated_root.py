"""Only an entry point: charts call the Job that makes the simulated root by this name.

A chart may meet images of another version, so the name stays; the Job's program is `confcom.simulated_root`.
"""

from __future__ import annotations

import os
import sys

from confcom.simulated_root.job import main

if __name__ == "__main__":
    sys.exit(main(environ=os.environ, stdout=sys.stdout, stderr=sys.stderr))
